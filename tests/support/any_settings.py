"""Settings that hypothesis draws: any valid file, and its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from coordemu.resilience.settings import KEYS, PAIRS
from coordemu.resilience.settings_key import NUMBER, SWITCH, WORD, Key

# A machine that has other work to do is no failure.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def any_value(key: Key) -> st.SearchStrategy[Any]:
    """A value within its bounds; often at one of them."""
    if key.kind == SWITCH:
        return st.booleans()
    if key.kind == WORD:
        return st.sampled_from(key.words)
    edges = st.sampled_from([key.low, key.high])
    if key.kind == NUMBER:
        return st.one_of(edges.map(float), st.floats(key.low, key.high))
    return st.one_of(edges.map(int), st.integers(int(key.low), int(key.high)))


def _in_order(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Both keys of a pair or none, and the smaller one first."""
    for section, small, large in PAIRS:
        found = values.get(section, {})
        if small in found or large in found:
            both = [found.get(name, KEYS[section][name].default) for name in (small, large)]
            within = KEYS[section][small]
            found[small], found[large] = sorted(both)
            found[small] = min(found[small], type(found[small])(within.high))
    return values


any_values = st.fixed_dictionaries(
    {},
    optional={
        section: st.fixed_dictionaries({}, optional={name: any_value(key) for name, key in keys.items()})
        for section, keys in KEYS.items()
    },
).map(_in_order)


def toml_text(values: Mapping[str, Mapping[str, Any]]) -> str:
    """A file that says so."""
    lines = []
    for section, keys in values.items():
        lines.append(f"[{section}]")
        for name, value in keys.items():
            text = f'"{value}"' if isinstance(value, str) else repr(value)
            lines.append(f"{name} = {text.lower() if isinstance(value, bool) else text}")
    return "\n".join(lines) + "\n"
