"""Settings as tables: what holds and where it comes from, and what there is to be set.

Role: `coordemu config` prints the first; the second is Markdown, and part of docs/configuration.md, which a test holds
to it. Both are made of the keys themselves.

Thread: the caller's. Upstream: none. Left out: writing a file of settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordemu.resilience.profiles import PROFILES, SUMMARIES
from coordemu.resilience.settings import KEYS, SECTIONS
from coordemu.resilience.settings_key import Value, shown
from coordemu.resilience.settings_loader import LoadedSettings
from coordemu.resilience.settings_origin import DEFAULT, printable


def print_settings(console: Console, loaded: LoadedSettings) -> None:
    """Every value with its origin; what is not a default stands out on a terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("key", no_wrap=True)
    table.add_column("value", no_wrap=True, justify="right")
    table.add_column("origin", overflow="fold")
    for section, keys in loaded.settings.values().items():
        table.add_row(f"[bold]{escape(f'[{section}]')}[/]", "", "")
        for name, value in keys.items():
            origin = loaded.origins[section][name]
            row = (name, escape(toml_value(value)), escape(str(origin)))
            table.add_row(*row, style="dim" if origin.kind == DEFAULT else None)
    console.print(escape(headline(loaded)), soft_wrap=True)
    console.print(table)


def headline(loaded: LoadedSettings) -> str:
    """Which profile and file, in a line."""
    profile = f"profile {loaded.profile}" if loaded.profile else "no profile"
    return f"{profile}, {f'file {printable(loaded.path)}' if loaded.path else 'no file'}, {_overridden(loaded)}"


def _overridden(loaded: LoadedSettings) -> str:
    kinds = [origin.kind for keys in loaded.origins.values() for origin in keys.values()]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return f"{len(kinds)} values: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())


def to_json(loaded: LoadedSettings) -> dict[str, Any]:
    """What ``--json`` writes."""
    return {
        "schema": 1,
        "profile": loaded.profile or None,
        "file": loaded.path or None,
        "settings": loaded.to_json(),
    }


def toml_value(value: Value) -> str:
    """A value as a file has it."""
    return f'"{value}"' if isinstance(value, str) else shown(value)


def keys_markdown() -> str:
    """Every key with its bounds, section by section, as Markdown. Ends with a line break."""
    return "\n".join(_keys_lines()) + "\n"


def _keys_lines() -> Iterator[str]:
    for section in SECTIONS:
        yield f"### [{section}]"
        yield ""
        yield "| key | what it may be | default | meaning |"
        yield "|---|---|---|---|"
        for key in KEYS[section].values():
            yield f"| `{key.name}` | {key.kind}, {key.bounds} | `{toml_value(key.default)}` | {key.meaning} |"
        yield ""
    yield "### Profiles"
    yield ""
    yield f"| key | {' | '.join(PROFILES)} |"
    yield f"|---|{'---|' * len(PROFILES)}"
    for section, keys in KEYS.items():
        for name in keys:
            values = [profile.get(section, {}).get(name) for profile in PROFILES.values()]
            if any(value is not None for value in values):
                cells = (f"`{toml_value(value)}`" if value is not None else "" for value in values)
                yield f"| `{section}.{name}` | {' | '.join(cells)} |"
    yield ""
    yield from (f"* `{name}`: {summary}" for name, summary in SUMMARIES.items())
