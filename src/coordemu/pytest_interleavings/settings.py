"""Settings: what one test asks of the search, from its mark, the options and the ini file.

Role: reads ``@pytest.mark.interleavings(...)`` once and says in one line what is wrong with it. An option wins over the
mark, the mark over the ini file, the ini file over what stands here.

Thread: pytest's. Upstream: none. Left out: options of the replay, which belong to the whole run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pytest

from coordemu.explore.portfolio import PORTFOLIO, check_strategy
from coordemu.runtime.sim import CLOCKS

MARK = "interleavings"
MARK_HELP = (
    f"{MARK}(n=200, strategy={PORTFOLIO!r}, seed=0, clock=None, expect=None): "
    "run the test in the simulator, in n orders (see coordemu.pytest_interleavings)"
)
ORDERS = 200
KINDS = ("deadlocked", "error", "livelock")
_FIELDS = ("n", "strategy", "seed", "clock", "expect")


class SettingsError(ValueError):
    """A mark that makes no sense; one line for the user."""


@dataclass(frozen=True, slots=True)
class Settings:
    """n: how many orders, 1 or more.  strategy: a name of `coordemu.explore.portfolio.STRATEGY_NAMES`.  seed: of the
    search.  clock: "idle" or "explored" in every order; None: as the strategy says.  expect: the kind of failure that
    must be found, one of KINDS; None: no order may fail. Raises SettingsError outside of that."""

    n: int = ORDERS
    strategy: str = PORTFOLIO
    seed: int = 0
    clock: str | None = None
    expect: str | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("n", self.n, 1), ("seed", self.seed, 0)):
            if type(value) is not int or value < least:
                raise SettingsError(f"{MARK}: {name} is {value!r}, not a number from {least} on")
        try:
            check_strategy(self.strategy)
        except ValueError as error:
            raise SettingsError(f"{MARK}: {error}") from None
        for name, word, words in (("clock", self.clock, CLOCKS), ("expect", self.expect, KINDS)):
            if word is not None and word not in words:
                raise SettingsError(f"{MARK}: {name} {word!r} is none of {', '.join(words)}")

    @classmethod
    def of(cls, item: pytest.Item) -> Settings:
        """Those of a test; without the mark they are one order, in which nobody is interrupted.

        Raises SettingsError for a mark that makes no sense.
        """
        mark = item.get_closest_marker(MARK)
        config = item.config
        seed = config.getoption("coordemu_seed")
        if mark is None:
            return cls(1, "run-on")
        if mark.args:
            raise SettingsError(f"{MARK} takes names: {MARK}({_FIELDS[0]}={mark.args[0]!r}, ...)")
        given: dict[str, Any] = {key: value for key, value in mark.kwargs.items() if value is not None}
        _check_names(given)
        given.setdefault("n", _ini_number(config, "coordemu_schedules", ORDERS))
        given.setdefault("seed", _ini_number(config, "coordemu_seed", 0))
        orders = config.getoption("coordemu_schedules")
        if orders is not None:
            given["n"] = orders
        if seed is not None:
            given["seed"] = seed
        return cls(**given)


def _check_names(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in _FIELDS:
            near = get_close_matches(name, _FIELDS, 1, 0.0)[0]
            raise SettingsError(f"{MARK} has no {name!r}; did you mean {near!r}?")


def _ini_number(config: pytest.Config, name: str, default: int) -> int:
    text = str(config.getini(name)).strip()
    if not text:
        return default
    if not text.isdigit():
        raise SettingsError(f"{name} of the ini file is {text!r}, not a number")
    return int(text)
