"""SettingsFile: a TOML file of settings, read and checked.

Role: reads the file, finds the line of each value, and refuses what no setting is called, what is of another kind and
what is out of bounds; the first complaint ends it, as one line with file, line, section, key and bound. The file may
name the profile that its values go on top of, as `profile` before the first section.

Thread: any; blocks for the disk. Upstream: none. Left out: more than one file, and including one in another. The line
is looked for in the text: of a value in an inline table or behind a dotted key it is not found, and the file alone
is named. Bounds: a file of a megabyte.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordemu.resilience.profiles import UnknownProfile, get_profile
from coordemu.resilience.settings import KEYS
from coordemu.resilience.settings_key import Value, nearest, shown
from coordemu.resilience.settings_origin import FILE, Origin, printable

MOST_BYTES = 1_000_000
PROFILE_KEY = "profile"
_HEADER = re.compile(r"\s*\[\s*([\w-]+|\"[\w-]+\"|'[\w-]+')\s*\]\s*(#.*)?$")
_PAIR = re.compile(r"\s*([\w-]+|\"[\w-]+\"|'[\w-]+')\s*=")


class SettingsError(ValueError):
    """Settings that are wrong; the message is one line that says where, and what would be right."""


class SettingsFileUnreadable(SettingsError):
    """There is no such file, or the system does not let it be read."""


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file says. values, origins: by section and key.  profile: that it names, "" for none."""

    path: str
    values: Mapping[str, Mapping[str, Value]]
    origins: Mapping[str, Mapping[str, Origin]]
    profile: str = ""


def read_settings_file(path: str) -> SettingsFile:
    """Read and check a file. Raises SettingsFileUnreadable, SettingsError. Thread: any. Blocks for the disk."""
    shown_path = printable(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as err:
        raise SettingsFileUnreadable(f"can't read {shown_path}: {err.strerror}") from None
    except ValueError as err:  # a path with a NUL
        raise SettingsFileUnreadable(f"can't read {shown_path}: {err}") from None
    if len(raw) > MOST_BYTES:
        raise SettingsError(f"{shown_path}: more than {MOST_BYTES} bytes, which is no file of settings")
    try:
        text = raw.decode()
    except UnicodeDecodeError as err:
        raise SettingsError(f"{shown_path}: not UTF-8 (byte {err.start})") from None
    return parse_settings(text, path)


def parse_settings(text: str, path: str) -> SettingsFile:
    """Check the text of a file. path: for the errors and origins. Raises SettingsError. Thread: any."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise SettingsError(f"{printable(path)}: not TOML: {_one_line(err)}") from None
    except (ValueError, RecursionError) as err:  # a number of too many digits; brackets in brackets in brackets
        raise SettingsError(f"{printable(path)}: not TOML that can be read: {_one_line(err)}") from None
    lines = _lines(text)
    profile = _profile(document, Origin(FILE, path, lines.get(("", PROFILE_KEY), 0)))
    values: dict[str, dict[str, Value]] = {}
    origins: dict[str, dict[str, Origin]] = {}
    for section, table in document.items():
        if section == PROFILE_KEY:
            continue
        place = Origin(FILE, path, lines.get((section, ""), lines.get(("", section), 0)))
        if section not in KEYS:
            raise SettingsError(f"{place}: {_unknown_section(section, table)}")
        if not isinstance(table, dict):
            raise SettingsError(f"{place}: {section} is a section: write [{section}], and its keys below it")
        origins[section] = {name: Origin(FILE, path, lines.get((section, name), 0)) for name in table}
        values[section] = {
            name: _checked(section, name, value, origins[section][name]) for name, value in table.items()
        }
    return SettingsFile(path, values, origins, profile)


def _profile(document: Mapping[str, Any], origin: Origin) -> str:
    found = document.get(PROFILE_KEY, "")
    try:
        if isinstance(found, str):
            if PROFILE_KEY in document:
                get_profile(found)
            return found
    except UnknownProfile as err:
        raise SettingsError(f"{origin}: {err}") from None
    raise SettingsError(f"{origin}: profile {shown(found)} is no name of a profile")


def _checked(section: str, name: str, value: object, origin: Origin) -> Value:
    key = KEYS[section].get(name)
    if key is None:
        raise SettingsError(f"{origin}: {_unknown_key(section, name)}")
    wrong = key.check(value)
    if wrong:
        raise SettingsError(f"{origin}: [{section}] {name} {wrong}")
    assert isinstance(value, int | float | str)
    return key.taken(value)


def _unknown_section(section: str, table: object) -> str:
    if not isinstance(table, dict):
        homes = [f"[{home}] {section}" for home, keys in KEYS.items() if section in keys]
        near = nearest(section, (PROFILE_KEY, *(name for keys in KEYS.values() for name in keys)))
        return f"{shown(section)} stands in no section; did you mean {' or '.join(homes) or repr(near)}?"
    return f"no section is called {shown(section)}; did you mean [{nearest(section, KEYS)}]? ({', '.join(KEYS)})"


def _unknown_key(section: str, name: str) -> str:
    elsewhere = [f"[{home}] {name}" for home, keys in KEYS.items() if name in keys]
    near = nearest(name, KEYS[section])
    return f"[{section}] has no key {shown(name)}; did you mean {' or '.join(elsewhere) or repr(near)}?"


def _one_line(error: Exception) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in str(error)).split())


def _lines(text: str) -> dict[tuple[str, str], int]:
    """The line of each section (its key is "") and of each key, where one is seen. What was read is known to be TOML,
    and no value that is allowed has a line break in it."""
    found: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line.rstrip("\r"))
        pair = _PAIR.match(line)
        if header:
            section = header[1].strip("\"'")
            found.setdefault((section, ""), number)
        elif pair:
            found.setdefault((section, pair[1].strip("\"'")), number)
    return found
