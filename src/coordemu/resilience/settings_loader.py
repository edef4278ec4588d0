"""LoadedSettings: the settings that hold, and where each value comes from.

Role: puts default, profile, file and environment on top of each other, and checks what is between two keys at the end,
when both are known. The profile is the one that is asked for, else the environment's, else the file's; without any of
them the defaults hold.

Thread: any; blocks for the file. Upstream: none. Left out: options of single commands, which override what they like
with `dataclasses.replace`. Bounds: each key's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordemu.resilience.profiles import UnknownProfile, get_profile
from coordemu.resilience.settings import KEYS, SECTIONS, Settings, broken_pairs
from coordemu.resilience.settings_environment import profile_of, read_environment
from coordemu.resilience.settings_file import SettingsError, read_settings_file
from coordemu.resilience.settings_key import Value, shown
from coordemu.resilience.settings_origin import DEFAULT, ENVIRONMENT, PROFILE, Origin


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """settings: the values.  origins: by section and key, for every one.  profile, path: "" when there is none."""

    settings: Settings
    origins: Mapping[str, Mapping[str, Origin]]
    profile: str = ""
    path: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every value with its origin."""
        return {
            section: {
                name: {"value": value, "origin": self.origins[section][name].to_json()} for name, value in keys.items()
            }
            for section, keys in self.settings.values().items()
        }


def load_settings(
    profile: str | None = None, path: str | None = None, environment: Mapping[str, str] | None = None
) -> LoadedSettings:
    """The settings of a profile, a file and the environment (None: none of it).

    Raises SettingsError, with one line; SettingsFileUnreadable, one of them, when the file can't be read. Thread: any.
    Blocks for the file.
    """
    environment = environment or {}
    file = read_settings_file(path) if path is not None else None
    named = _profile(profile, environment, file.profile if file is not None else "")
    values: dict[str, dict[str, Value]] = {}
    origins: dict[str, dict[str, Origin]] = {}
    for section, keys in KEYS.items():
        values[section] = {name: key.default for name, key in keys.items()}
        origins[section] = dict.fromkeys(keys, Origin(DEFAULT))
        if named:
            said = get_profile(named).get(section, {})
            values[section].update(said)
            origins[section].update(dict.fromkeys(said, Origin(PROFILE, named)))
        if file is not None:
            values[section].update(file.values.get(section, {}))
            origins[section].update(file.origins.get(section, {}))
    for key, value in read_environment(environment):
        values[key.section][key.name] = value
        origins[key.section][key.name] = Origin(ENVIRONMENT, key.variable)
    for section in KEYS:
        _check_pairs(section, values[section], origins[section])
    built: dict[str, Any] = {section: kind(**values[section]) for section, kind in SECTIONS.items()}
    return LoadedSettings(Settings(**built), origins, named, path or "")


def _profile(asked: str | None, environment: Mapping[str, str], of_file: str) -> str:
    if asked is None:
        return profile_of(environment) or of_file
    try:
        get_profile(asked)
    except UnknownProfile as err:
        raise SettingsError(str(err)) from None
    return asked


def _check_pairs(section: str, values: Mapping[str, Value], origins: Mapping[str, Origin]) -> None:
    for small, large in broken_pairs(section, values.__getitem__):
        # The one that was set last is the one to name first.
        raise SettingsError(
            f"{_blamed(origins[small], origins[large])}: [{section}] {small} {shown(values[small])} ({origins[small]}) "
            f"is above {large} {shown(values[large])} ({origins[large]})"
        )


def _blamed(small: Origin, large: Origin) -> Origin:
    return small if large.kind in (DEFAULT, PROFILE) else large
