"""Settings from the environment: COORDEMU_<SECTION>_<KEY>.

Role: reads the variables that a mapping has (the command line gives `os.environ`), and refuses those that begin like a
setting and are none, with the nearest known one named. A variable that is nearly a known one (its section misspelt) is
refused too; any other COORDEMU_ variable is somebody else's, and is left alone. COORDEMU_PROFILE names the profile.

Thread: any. Upstream: none. Left out: lower-case names. Bounds: each key's.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordemu.resilience.profiles import UnknownProfile, get_profile
from coordemu.resilience.settings import KEYS, all_keys
from coordemu.resilience.settings_file import SettingsError
from coordemu.resilience.settings_key import Key, Value, nearest, shown

PREFIX = "COORDEMU_"
PROFILE_VARIABLE = "COORDEMU_PROFILE"
_LIKE = 0.85
_VARIABLES: Mapping[str, Key] = {key.variable: key for key in all_keys()}
_BEGINNINGS = tuple(f"{PREFIX}{section}_".upper() for section in KEYS)


def read_environment(environment: Mapping[str, str]) -> list[tuple[Key, Value]]:
    """The settings in it, by the variables' names in order. Raises SettingsError. Thread: any."""
    found = []
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        key = _VARIABLES.get(variable)
        if key is not None:
            found.append((key, _parsed(key, environment[variable])))
        elif variable != PROFILE_VARIABLE:
            _check_foreign(variable)
    return found


def profile_of(environment: Mapping[str, str]) -> str:
    """The profile that it names; "" for none. Raises SettingsError. Thread: any."""
    name = environment.get(PROFILE_VARIABLE, "")
    try:
        if PROFILE_VARIABLE in environment:
            get_profile(name)
    except UnknownProfile as err:
        raise SettingsError(f"{PROFILE_VARIABLE}: {err}") from None
    return name


def _parsed(key: Key, text: str) -> Value:
    value = key.parse(text)
    wrong = key.check(value) if value is not None else f"{shown(text)} is not a {key.kind} ({key.bounds})"
    if value is None or wrong:
        raise SettingsError(f"{key.variable}: [{key.section}] {key.name} {wrong}")
    return key.taken(value)


def _check_foreign(variable: str) -> None:
    known = (*_VARIABLES, PROFILE_VARIABLE)
    near = nearest(variable, known, 0.0 if variable.startswith(_BEGINNINGS) else _LIKE)
    if near is not None:
        raise SettingsError(f"no setting is called {shown(variable)}; did you mean {near}?")
