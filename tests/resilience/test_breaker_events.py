"""What listeners hear: in order, outside the lock, whatever they do and raise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from coordemu.resilience.breaker_events import CALL_KINDS, MOVE_KINDS, BreakerEvent
from coordemu.resilience.breaker_state import BreakerState
from coordemu.resilience.circuit_breaker import BreakerOpen, BreakerOptions, CircuitBreaker
from coordemu.resilience.event_box import MAX_ERRORS, MAX_WAITING

S = BreakerState
OPTIONS = BreakerOptions(failures_in_row=2, open_ms=10, half_open_max_ms=100)


@pytest.fixture
def breaker(shifted) -> CircuitBreaker:
    return CircuitBreaker(shifted, OPTIONS)


def moves(heard: list[BreakerEvent]) -> list[tuple[str, str]]:
    return [(event.kind, event.why) for event in heard]


def test_a_life_as_a_listener_hears_it(breaker, shifted) -> None:
    heard: list[BreakerEvent] = []
    breaker.subscribe(heard.append)
    for _ in range(2):
        breaker.acquire().failure(OSError("refused"))
    shifted.pass_ms(10)
    probe = breaker.acquire()
    shifted.pass_ms(100)
    with pytest.raises(BreakerOpen):
        breaker.acquire()
    shifted.pass_ms(10)
    breaker.acquire().failure()
    shifted.pass_ms(10)
    breaker.acquire().success()
    probe.failure()
    breaker.force_open("a drill")
    breaker.force_open("again")
    breaker.disable()
    breaker.reset()
    assert moves(heard) == [
        ("opened", "2 failures in a row, the last with OSError"),
        ("half-opened", "a caller comes, and the open time is over"),
        ("opened", "a caller comes, and all permits have been out for too long"),
        ("half-opened", "a caller comes, and the open time is over"),
        ("opened", "a probe failed"),
        ("half-opened", "a caller comes, and the open time is over"),
        ("closed", "1 of 1 probes succeeded"),
        ("forced-open", "a drill"),
        ("disabled", "on demand"),
        ("reset", "on demand"),
    ]
    assert {event.kind for event in heard} <= MOVE_KINDS
    for earlier, later in pairwise(heard):
        assert later.source is earlier.target
        assert later.at_ns >= earlier.at_ns
    assert heard[0].at_ns == 1_000_000_000


def test_single_calls_for_who_wants_them(breaker) -> None:
    heard: list[BreakerEvent] = []
    unsubscribe = breaker.subscribe(heard.append, calls=True)
    late = breaker.acquire()
    breaker.acquire().success()
    breaker.acquire().ignore()
    breaker.acquire().cancel()
    breaker.acquire().failure(KeyError("x"))
    breaker.acquire().failure()
    late.success()
    with pytest.raises(BreakerOpen):
        breaker.acquire()
    assert [event.kind for event in heard] == [
        "success", "ignored", "cancelled", "failure", "failure", "opened", "late", "refused",
    ]  # fmt: skip
    assert {event.kind for event in heard} == CALL_KINDS | {"opened"}
    assert heard[3].why == "KeyError"
    assert [event.target for event in heard[4:]] == [S.CLOSED, S.OPEN, S.OPEN, S.OPEN]
    assert unsubscribe()
    assert not unsubscribe()
    breaker.force_closed()
    breaker.acquire().success()
    assert len(heard) == 8


def test_a_success_is_heard_of_from_the_subscription_on_and_counts_without_it(breaker) -> None:
    breaker.acquire().success()
    heard: list[BreakerEvent] = []
    early = breaker.acquire()
    unsubscribe = breaker.subscribe(heard.append, calls=True)
    early.success()
    assert [event.kind for event in heard] == ["success"]
    unsubscribe()
    breaker.acquire().success()
    assert len(heard) == 1
    assert breaker.statistics()["successes"] == 3


def test_a_listener_that_raises_does_not_keep_others_from_hearing(breaker) -> None:
    heard: list[BreakerEvent] = []

    def broken(event: BreakerEvent) -> None:
        raise LookupError(event.kind)

    breaker.subscribe(broken)
    breaker.subscribe(heard.append)
    breaker.force_open()
    breaker.disable()
    assert [event.kind for event in heard] == ["forced-open", "disabled"]
    assert [str(error) for error in breaker.listener_errors] == ["forced-open", "disabled"]
    for _ in range(2 * MAX_ERRORS):
        breaker.force_closed()
    assert len(breaker.listener_errors) == MAX_ERRORS
    assert breaker.statistics()["raised"] == 2 + 2 * MAX_ERRORS


class Stop(BaseException):
    """What is no Exception."""


def test_a_listener_that_is_interrupted_costs_no_permit_and_no_event(breaker, shifted) -> None:
    heard: list[BreakerEvent] = []
    stops = [Stop()]

    def interrupted(event: BreakerEvent) -> None:
        heard.append(event)
        if event.kind == "half-opened" and stops:
            raise stops.pop()

    breaker.subscribe(interrupted)
    breaker.acquire().failure()
    breaker.acquire().failure()
    shifted.pass_ms(10)
    with pytest.raises(Stop):
        breaker.acquire()
    assert breaker.statistics()["probes_out"] == 0
    assert breaker.acquire().success()
    assert [event.kind for event in heard] == ["opened", "half-opened", "closed"]


def test_a_listener_may_ask_and_move_the_breaker_and_hears_of_that_afterwards(breaker) -> None:
    heard: list[tuple[str, str]] = []

    def meddler(event: BreakerEvent) -> None:
        heard.append((event.kind, str(breaker.statistics()["state"])))
        if event.kind == "opened":
            breaker.disable("by the listener")
            heard.append(("after", breaker.state.value))

    breaker.subscribe(meddler)
    breaker.acquire().failure()
    breaker.acquire().failure()
    assert heard == [("opened", "OPEN"), ("after", "DISABLED"), ("disabled", "DISABLED")]


def test_what_waits_has_a_bound(breaker) -> None:
    heard: list[Any] = []

    def slow(event: BreakerEvent) -> None:
        heard.append(event)
        if len(heard) == 1:
            for _ in range(MAX_WAITING + 5):
                breaker.force_closed()

    breaker.subscribe(slow)
    breaker.force_open()
    counts = breaker.statistics()
    assert (counts["dropped"], counts["told"], len(heard)) == (5, MAX_WAITING + 1, MAX_WAITING + 1)


def test_the_moves_of_many_are_heard_in_order(rt, start) -> None:
    breaker = CircuitBreaker(rt, OPTIONS)
    lock = rt.lock("journal")
    heard: list[BreakerEvent] = []

    def listener(event: BreakerEvent) -> None:
        with lock:
            heard.append(event)

    breaker.subscribe(listener)

    def mover() -> None:
        for _ in range(20):
            breaker.force_open()
            breaker.force_closed()

    for call in [start(mover) for _ in range(4)]:
        call.join()
    assert len(heard) == breaker.generation - 1
    for earlier, later in pairwise(heard):
        assert later.source is earlier.target
