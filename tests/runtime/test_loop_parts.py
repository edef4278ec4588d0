"""The loop's parts by themselves: the timer heap on a clock of the test's, the poller, the wake-up, the state table."""

from __future__ import annotations

import os

import pytest

from coordemu.runtime.base import NS_PER_MS
from coordemu.runtime.loop_timer import STALE_ALLOWED, LoopTimer, TimerHeap
from coordemu.runtime.loop_wakeup import LoopAsync, LoopWakeup
from coordemu.runtime.poller import READABLE, Poller
from coordemu.runtime.transport_state import NO_HANDLER, TRANSITIONS, State, next_state


class Clock:
    """The heap's clock, and the loop that its timers think they have."""

    def __init__(self):
        self.now_ns = 1000
        self.heap = TimerHeap(lambda: self.now_ns)
        self.fired = []

    def check_usable(self):
        pass

    def timer(self, name, callback=None):
        return LoopTimer(self, self.heap, callback or (lambda: self.fired.append((name, self.now_ns))), name)

    def at(self, now_ns):
        self.now_ns = now_ns
        return self.heap.run_due()


@pytest.fixture
def clock():
    return Clock()


def test_timers_fire_at_their_deadline_not_before(clock):
    clock.timer("a").start(10)
    assert clock.heap.next_deadline_ns() == 1010
    assert clock.at(1009) == 0
    assert clock.at(1010) == 1
    assert clock.fired == [("a", 1010)]
    assert clock.heap.next_deadline_ns() is None


def test_a_repeating_timer_keeps_its_beat_and_does_not_catch_up(clock):
    timer = clock.timer("a")
    timer.start(10, 10)
    for now_ns in (1010, 1023, 1030, 1075, 1080, 1085):
        clock.at(now_ns)
    # 1023 came late, and the beat stayed; 1075 came more than a beat late: one call, then a full interval.
    assert [at for _, at in clock.fired] == [1010, 1023, 1030, 1075, 1085]
    assert timer.active
    timer.stop()
    assert clock.at(5000) == 0


def test_a_timer_armed_for_now_in_a_callback_fires_in_the_next_turn(clock):
    later = clock.timer("later")
    clock.timer("now", lambda: later.start(0)).start(0)
    assert clock.at(1000) == 1
    assert clock.fired == []
    assert clock.at(1000) == 1
    assert clock.fired == [("later", 1000)]


def test_restarting_does_not_let_the_heap_grow(clock):
    timers = [clock.timer(f"t{i}") for i in range(10)]
    for i in range(1000):
        timers[i % 10].start(i)
    assert len(clock.heap) == 10
    assert len(clock.heap._entries) <= 2 * 10 + STALE_ALLOWED
    assert clock.at(10_000) == 10
    clock.timer("x").start(5)
    clock.heap.clear()
    assert len(clock.heap) == 0
    assert clock.at(20_000) == 0


@pytest.mark.parametrize("wait_ns", [None, 0, NS_PER_MS, 30 * NS_PER_MS])
def test_every_kind_of_wait_reports_the_same(wait_ns):
    poller = Poller()
    ours, theirs = os.pipe()
    source = object()
    try:
        poller.watch(ours, source, READABLE)
        os.write(theirs, b"x")
        assert poller.poll(wait_ns) == [(source, READABLE)]
        poller.watch(ours, source, 0)
        poller.watch(ours, source, 0)
        assert len(poller) == 0
        assert poller.poll(0) == []
        assert poller.poll(NS_PER_MS) == []
    finally:
        poller.close()
        poller.close()
        os.close(ours)
        os.close(theirs)


def test_a_sender_writes_only_when_the_loop_polls_and_once():
    wakeup = LoopWakeup()
    handle, other = (LoopAsync(wakeup, lambda: None, name) for name in "ab")
    handle.send()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(wakeup.fd)
    assert wakeup.before_poll()  # it has been sent already, so the poll must not block
    other.send()
    wakeup.wake()
    wakeup.wake()
    assert os.eventfd_read(wakeup.fd) == 1
    wakeup.after_poll()
    wakeup.wake()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(wakeup.fd)
    assert wakeup.run_sent() == 2
    assert wakeup.run_sent() == 0
    assert not wakeup.before_poll()
    handle.send()
    wakeup.send(handle)  # as two racing senders may
    assert wakeup.run_sent() == 1
    wakeup.wake()  # a new poll, a new write
    assert os.eventfd_read(wakeup.fd) == 1
    wakeup.close()
    handle.send()
    wakeup.wake()


def test_the_transport_table_knows_only_sensible_steps():
    for (state, event), after in TRANSITIONS.items():
        assert next_state(state, event) is after
    for state in State:
        assert (state, "close") in TRANSITIONS  # the owner may always close
        assert (state, "abort") in TRANSITIONS
    assert {state for (state, event) in TRANSITIONS if event == "ended"} == set(State) - {State.CLOSED}
    with pytest.raises(RuntimeError, match="'flushed' does not fit a open transport"):
        next_state(State.OPEN, "flushed")
    NO_HANDLER.on_connect()
    NO_HANDLER.on_data(b"x")
    NO_HANDLER.on_close(None)
