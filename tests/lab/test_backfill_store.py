"""The store of the backfill: slots, idempotency keys, dead letters; the first decision stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from coordemu.lab.backfill_store import BURIED, DUPLICATE, WRITTEN, BackfillStore, StoreBusy
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.runtime.threads import ThreadsRuntime

MESSAGES = st.integers(0, 5)


class StoreMachine(RuleBasedStateMachine):
    """Against a dict in which the first entry of a message stays."""

    def __init__(self) -> None:
        super().__init__()
        self.store = BackfillStore(ThreadsRuntime(seed=1), slots=2)
        self.model: dict[int, tuple[bytes, str]] = {}
        self.absorbed = 0

    @rule(message=MESSAGES, content=st.binary(max_size=3))
    def write(self, message: int, content: bytes) -> None:
        said = self.store.write(message, content)
        self.absorbed += message in self.model
        assert said == (DUPLICATE if message in self.model else WRITTEN)
        self.model.setdefault(message, (content, ""))

    @rule(message=MESSAGES, reason=st.text(min_size=1, max_size=3))
    def bury(self, message: int, reason: str) -> None:
        said = self.store.bury(message, reason)
        self.absorbed += message in self.model
        assert said == (DUPLICATE if message in self.model else BURIED)
        self.model.setdefault(message, (b"", reason))

    @invariant()
    def as_the_model(self) -> None:
        assert {key: (each.content, each.reason) for key, each in self.store.outcomes().items()} == self.model
        dead = sum(bool(reason) for _, reason in self.model.values())
        counts = self.store.statistics()
        assert (counts["done"], counts["dead"]) == (len(self.model) - dead, dead) == (self.store.done, self.store.dead)
        assert counts["duplicates"] == self.absorbed
        assert counts["busy"] == 0
        assert all(self.store.has(message) == (message in self.model) for message in range(6))


def test_the_first_decision_stands() -> None:
    run_state_machine_as_test(StoreMachine, settings=settings(max_examples=50, stateful_step_count=20))


def test_a_dead_letter_needs_a_reason(rt: ThreadsRuntime) -> None:
    with pytest.raises(ValueError, match="without a reason"):
        BackfillStore(rt).bury(1, "")


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"write_ms": -1}, {"wait_ms": -1}])
def test_bounds(rt: ThreadsRuntime, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="store"):
        BackfillStore(rt, **wrong)


@given(seed=st.integers(0, 1000), writers=st.integers(1, 6), slots=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_never_more_writes_at_once_than_slots(seed: int, writers: int, slots: int) -> None:
    sim = SimRuntime(make_strategy("random", seed))
    store = BackfillStore(sim, slots, write_ms=1.0, wait_ms=1000.0)

    def main() -> None:
        tasks = [sim.spawn(store.write, message, b"", name=f"writer {message}") for message in range(writers)]
        for task in tasks:
            task.join()

    sim.run(main).check()
    counts = store.statistics()
    assert counts["most_busy"] == min(slots, writers)
    assert (counts["done"], counts["turned_away"]) == (writers, 0)


def test_who_finds_no_slot_in_time_is_turned_away() -> None:
    sim = SimRuntime(make_strategy("run-on"))
    store = BackfillStore(sim, 1, write_ms=50.0, wait_ms=20.0)
    errors: list[StoreBusy] = []

    def second() -> None:
        sim.sleep_ns(1_000_000)
        try:
            store.write(2, b"")
        except StoreBusy as error:
            errors.append(error)

    def main() -> None:
        task = sim.spawn(second, name="second")
        store.write(1, b"")
        task.join()

    sim.run(main).check()
    (error,) = errors
    assert error.waited_ns == 20_000_000
    assert "none of 1 slots" in str(error)
    assert (store.done, store.statistics()["turned_away"]) == (1, 1)
