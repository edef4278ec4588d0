"""Turn: which tests are played in the simulator, and what cannot be.

Role: the first look at a test when pytest calls it.

Thread: pytest's. Upstream: none. Left out: unittest's test cases, which take no fixtures.
"""

from __future__ import annotations

import inspect

import pytest

from coordemu.pytest_interleavings.fixtures import BOTH, SIM, SIM_FIXTURES, SLOT
from coordemu.pytest_interleavings.given import is_given, try_examples
from coordemu.pytest_interleavings.item_subject import ItemSubject
from coordemu.pytest_interleavings.settings import MARK, Settings, SettingsError
from coordemu.pytest_interleavings.stage import Slot
from coordemu.pytest_interleavings.trial import ReplayFile, Trial, raise_failure, refuse

REAL_FIXTURES = ("coordemu_run", "coordemu_coordinator")
REPLAY = pytest.StashKey[ReplayFile]()


def is_simulated(item: pytest.Function) -> bool:
    """Whether a test's body belongs into the simulator."""
    names = item.fixturenames
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params.get(BOTH) if callspec is not None else None
    return any(name in names for name in SIM_FIXTURES) or (BOTH in names and chosen == SIM)


def take_turn(item: pytest.Function) -> bool:
    """Have a test's turn, if it is one for the simulator. False when it is not.

    Raises what failed: the test's own exception, or pytest's failure with one line.
    """
    if not is_simulated(item):
        # A mark of a whole class or module means those of its tests that can be played.
        if any(mark.name == MARK for mark in item.own_markers) and BOTH not in item.fixturenames:
            refuse(f"{MARK}: the test takes none of {', '.join((*SIM_FIXTURES, BOTH))}")
        return False
    for name in REAL_FIXTURES:
        if name in item.fixturenames:
            refuse(f"{name} works on real threads; a test in the simulator cannot wait for it")
    if inspect.iscoroutinefunction(item.obj) or inspect.isasyncgenfunction(item.obj):
        refuse("an async test cannot be played in the simulator, which has tasks of its own")
    try:
        settings = Settings.of(item)
    except SettingsError as error:
        refuse(str(error))
    subject = ItemSubject(item, item.stash.setdefault(SLOT, Slot()))
    trial = Trial(item, settings, item.config.stash.get(REPLAY, None))
    if is_given(item):
        try_examples(item, subject, trial)
    elif trial.look(subject) is not None:
        shown = trial.explain()
        assert shown is not None
        raise_failure(shown)
    trial.check_replayed()
    return True
