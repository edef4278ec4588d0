"""coordemu.native: the table against a model of deques, the gate and its waits, and who holds the interpreter lock."""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import coordemu
from coordemu import _native
from coordemu.native import PendingTable
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, DrainWait

ROOT = Path(__file__).resolve().parents[1]
LONG_NS = 50 * NS_PER_S  # a deadline that only a lost wake-up reaches

Wait = Callable[[PendingTable, int], DrainWait]
WAITS: dict[str, Wait] = {
    "wake": lambda table, timeout_ns: table.wait_for_wake(timeout_ns),
    "poll": lambda table, timeout_ns: table.wait_by_polling(NS_PER_MS, timeout_ns),
}


@pytest.fixture(params=WAITS, ids=list(WAITS))
def wait(request: pytest.FixtureRequest) -> Wait:
    return WAITS[request.param]


def busy_table(*counts: int) -> PendingTable:
    """Node 0 with a Connected connection per count, which owes that many replies."""
    table = PendingTable("test")
    for index, replies in enumerate(counts):
        table.attach(0, index)
        table.set_connected(0, index, True)
        table.count(0, index, replies)
    return table


class Waiting:
    """A wait on a thread of its own, begun when the constructor returns (unless `at_once`: then some time soon)."""

    def __init__(self, table: PendingTable, wait: Wait, timeout_ns: int = LONG_NS, at_once: bool = False) -> None:
        self._result: list[DrainWait] = []
        before = table.statistics()["waiting"]
        self._thread = threading.Thread(target=lambda: self._result.append(wait(table, timeout_ns)), daemon=True)
        self._thread.start()
        while not at_once and table.statistics()["waiting"] == before and self._thread.is_alive():
            time.sleep(0)

    def result(self) -> DrainWait:
        self._thread.join(LONG_NS / NS_PER_S)
        assert not self._thread.is_alive()
        return self._result[0]


# the counts


class TableAgainstDeques(RuleBasedStateMachine):
    """A connection is two deques, as in hiredis; the table must answer what walking over them answers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PendingTable()
        self.deques: dict[tuple[int, int], tuple[deque[int], deque[int]]] = {}
        self.connected: set[tuple[int, int]] = set()
        self.num: int | None = None

    nodes = st.integers(0, 2) | st.integers(0, 9)
    indices = st.integers(0, 3) | st.integers(0, 70)  # near each other mostly, and over more than one word of bits

    def owed_from(self, num: int) -> dict[tuple[int, int], int]:
        owed = {}
        for key in self.connected:
            replies, sub_replies = self.deques[key]
            if key[1] >= num and (replies or sub_replies):
                owed[key] = len(replies) + len(sub_replies)
        return owed

    def must_complete(self, change: Callable[[], object]) -> bool:
        """Whether the change takes what an armed drain guards from something to nothing."""
        if self.num is None:
            change()
            return False
        before = self.owed_from(self.num)
        change()
        return bool(before) and not self.owed_from(self.num)

    @initialize(shape=st.lists(st.tuples(nodes, indices), max_size=12, unique=True))
    def fill(self, shape: list[tuple[int, int]]) -> None:
        for node, index in shape:
            self.attach(node, index)
            self.set_connected(node, index, True)

    @rule(node=nodes, index=indices)
    def attach(self, node: int, index: int) -> None:
        if (node, index) in self.deques:
            with pytest.raises(ValueError, match="attached already"):
                self.table.attach(node, index)
        else:
            self.table.attach(node, index)
            self.deques[node, index] = deque(), deque()

    @rule(node=nodes, index=indices)
    def detach(self, node: int, index: int) -> None:
        if (node, index) not in self.deques:
            with pytest.raises(ValueError, match="no context"):
                self.table.detach(node, index)
            return
        self.connected.discard((node, index))
        assert self.table.detach(node, index) == sum(map(len, self.deques.pop((node, index))))

    @rule(node=nodes, index=indices, connected=st.booleans())
    def set_connected(self, node: int, index: int, connected: bool) -> None:
        key = node, index
        if key not in self.deques:
            with pytest.raises(ValueError, match="no context"):
                self.table.set_connected(node, index, connected)
            return
        change = self.connected.add if connected else self.connected.discard
        completes = self.must_complete(lambda: change(key))
        assert self.table.set_connected(node, index, connected) is completes

    @precondition(lambda self: self.deques)
    @rule(data=st.data(), replies=st.integers(-6, 6), sub_replies=st.integers(-3, 3))
    def count(self, data: st.DataObject, replies: int, sub_replies: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.deques)))
        owed = self.deques[key]
        if len(owed[0]) + replies < 0 or len(owed[1]) + sub_replies < 0:
            with pytest.raises(ValueError, match="fall below 0"):
                self.table.count(*key, replies, sub_replies)
            return

        def change() -> None:
            for fifo, delta in zip(owed, (replies, sub_replies), strict=True):
                fifo.extend(range(delta))
                for _ in range(-delta):
                    fifo.popleft()

        completes = self.must_complete(change)
        assert self.table.count(*key, replies, sub_replies) is completes

    @precondition(lambda self: self.deques)
    @rule(data=st.data())
    def take_all(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.deques)))
        replies, sub_replies = self.deques[key]
        deltas = -len(replies), -len(sub_replies)
        completes = self.must_complete(lambda: (replies.clear(), sub_replies.clear()))
        assert self.table.count(*key, *deltas) is completes

    @rule(num=indices)
    def begin_drain(self, num: int) -> None:
        self.num = num
        assert self.table.begin_drain(num) == sum(self.owed_from(num).values())

    @rule()
    def end_drain(self) -> None:
        self.num = None
        self.table.end_drain()

    @rule()
    def supersede(self) -> None:
        expected = self.num is not None and bool(self.owed_from(self.num))
        self.num = None
        assert self.table.supersede() is expected

    @rule(num=indices, node=nodes)
    def ask(self, node: int, num: int) -> None:
        owed = self.owed_from(num)
        assert self.table.any_pending(num) is bool(owed)
        assert self.table.scan_pending(num) == len(owed)
        assert self.table.pending_total(num) == sum(owed.values())
        assert self.table.has_pending_operations(node, num) is ((node, num) in owed)
        replies, sub_replies = self.deques.get((node, num), ((), ()))
        assert self.table.replies(node, num) == len(replies)
        assert self.table.sub_replies(node, num) == len(sub_replies)

    @invariant()
    def sums_hold(self) -> None:
        assert self.table.consistent()
        assert self.table.draining_from == self.num
        for num in {0, 1, self.num or 0}:
            owed = self.owed_from(num)
            assert self.table.any_pending(num) is bool(owed)
            assert self.table.scan_pending(num) == len(owed)
            assert self.table.pending_total(num) == sum(owed.values())
        if self.num is not None:
            assert self.table.drained is not bool(self.owed_from(self.num))
        numbers = self.table.statistics()
        assert (numbers["attached"], numbers["connected"]) == (len(self.deques), len(self.connected))
        assert numbers["replies"] == sum(len(replies) for replies, _ in self.deques.values())
        assert numbers["sub_replies"] == sum(len(sub_replies) for _, sub_replies in self.deques.values())


TestTableAgainstDeques = TableAgainstDeques.TestCase
TestTableAgainstDeques.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_has_pending_operations_asks_in_the_write_ups_order() -> None:
    table = PendingTable()
    assert not table.has_pending_operations(2, 1)  # no context
    table.attach(2, 1)
    table.count(2, 1, 3, 2)
    assert not table.has_pending_operations(2, 1)  # not Connected
    table.set_connected(2, 1, True)
    table.count(2, 1, 0, -2)
    assert table.has_pending_operations(2, 1)  # replies
    table.count(2, 1, -3, 2)
    assert table.has_pending_operations(2, 1)  # sub-replies
    table.count(2, 1, 0, -2)
    assert not table.has_pending_operations(2, 1)


def test_a_count_below_zero_changes_nothing() -> None:
    table = busy_table(4)
    table.count(0, 0, 0, 2)
    for replies, sub_replies in ((-5, 0), (-4, -3), (5, -3), (-(2**63), 0)):
        with pytest.raises(ValueError, match="test: connection 0#0: a count would fall below 0"):
            table.count(0, 0, replies, sub_replies)
    assert (table.replies(0, 0), table.sub_replies(0, 0), table.statistics()["batches"]) == (4, 2, 2)


def test_bounds() -> None:
    table = busy_table(1)
    with pytest.raises(ValueError, match="would pass 2147483647"):
        table.count(0, 0, 2**31 - 1)
    table.count(0, 0, 2**31 - 2)
    assert table.pending_total(0) == 2**31 - 1
    for node, index in ((2**20, 0), (0, 2**16), (2**20 - 1, 2**16 - 1)):
        with pytest.raises(ValueError, match="bounds"):
            table.attach(node, index)
    for number in (-1, 2**32):
        with pytest.raises(OverflowError):
            table.any_pending(number)
        with pytest.raises(OverflowError):
            table.count(number, 0, 1)
        with pytest.raises(OverflowError):
            table.begin_drain(number)
    with pytest.raises(TypeError):
        table.any_pending(1.5)  # the checker of types is not at the border
    assert table.draining_from is None
    assert table.consistent()


def test_a_count_without_context_is_refused() -> None:
    table = PendingTable("t")
    with pytest.raises(ValueError, match="t: connection 1#2: it has no context"):
        table.count(1, 2, 1)


def test_growing_keeps_every_count() -> None:
    table = PendingTable()
    keys = [(node, index) for node in range(150) for index in range(0, 140, 7)]
    for owed, (node, index) in enumerate(keys):
        table.attach(node, index)
        table.set_connected(node, index, True)
        table.count(node, index, owed)
    assert [table.replies(*key) for key in keys] == list(range(len(keys)))
    assert table.scan_pending(0) == len(keys) - 1
    assert table.any_pending(133)
    assert [num for num in range(200) if table.any_pending(num)] == list(range(134))
    for index in range(133, -1, -7):  # from the top down: the answer follows at once
        for node in range(150):
            table.detach(node, index)
        assert table.any_pending(0) is (index > 0)
        assert not table.any_pending(max(index - 6, 0))
    assert table.consistent()


def test_what_an_ineligible_connection_owes_counts_again_when_it_is_connected() -> None:
    table = busy_table(0, 5)
    table.begin_drain(1)
    assert table.set_connected(0, 1, False)  # nothing eligible is left: drained
    assert table.drained
    assert table.replies(0, 1) == 5
    assert not table.set_connected(0, 1, True)
    assert not table.drained
    assert table.detach(0, 1) == 5
    assert table.drained


def test_repr_and_statistics() -> None:
    table = busy_table(1, 2)
    table.attach(3, 0)
    table.begin_drain(1)
    assert repr(table) == (
        "<PendingTable test: 2 of 3 connected, 3 replies and 0 sub-replies outstanding, draining from 1, 2 pending>"
    )
    table.count(0, 1, -2)
    table.end_drain()
    table.begin_drain(0)
    table.supersede()
    assert repr(table).endswith("no drain>")
    numbers = table.statistics()
    assert numbers.pop("begun_at_ns") > 0
    assert numbers == {
        "nodes": 4, "indices": 2, "attached": 3, "connected": 2, "batches": 3, "replies": 1, "sub_replies": 0,
        "drains_begun": 2, "drains_completed": 1, "waiting": 0, "waits": 0, "polls": 0, "wake_ups": 0,
        "drained_at_ns": 0, "superseded": 1,
    }  # fmt: skip


# the waits


def test_the_last_reply_wakes_the_waiter() -> None:
    for _ in range(1000):  # the waiter may look just before it sleeps, and is then not woken but sees it
        table = busy_table(1, 2)
        assert table.begin_drain(1) == 2
        waiting = Waiting(table, WAITS["wake"])
        assert not table.count(0, 0, -1)
        assert not table.count(0, 1, -1)
        assert table.count(0, 1, -1)
        result = waiting.result()
        assert (result.outcome, result.polls) == ("drained", 0)
        assert result.wake_ups <= 1
        if result.wake_ups:
            return
    pytest.fail("no waiter was ever woken")


def test_polls_are_counted_and_none_is_woken() -> None:
    table = busy_table(1)
    table.begin_drain(0)
    waiting = Waiting(table, WAITS["poll"])
    for _ in range(50):
        time.sleep(0)
    table.count(0, 0, -1)
    result = waiting.result()
    assert (result.outcome, result.wake_ups) == ("drained", 0)
    assert 1 <= result.polls <= result.waited_ns // NS_PER_MS + 2
    assert table.statistics()["polls"] == result.polls


def test_the_deadline_ends_the_wait(wait: Wait) -> None:
    table = busy_table(1)
    table.begin_drain(0)
    result = wait(table, 5 * NS_PER_MS)
    assert (result.outcome, result.wake_ups) == ("deadline", 0)
    assert 5 * NS_PER_MS <= result.waited_ns < LONG_NS
    assert result.polls <= 7
    assert table.draining_from == 0  # the deadline is the waiter's; the drain goes on


def test_no_time_at_all_is_one_look() -> None:
    table = busy_table(1)
    table.begin_drain(0)
    assert table.wait_for_wake(0).outcome == "deadline"
    result = table.wait_by_polling(LONG_NS, 0)
    assert (result.outcome, result.polls) == ("deadline", 1)
    table.count(0, 0, -1)
    result = table.wait_by_polling(LONG_NS, 0)
    assert (result.outcome, result.polls) == ("drained", 1)


def test_an_interval_past_the_deadline_is_cut_short() -> None:
    table = busy_table(1)
    table.begin_drain(0)
    result = table.wait_by_polling(LONG_NS, 2 * NS_PER_MS)
    assert (result.outcome, result.polls) == ("deadline", 2)


@pytest.mark.parametrize(
    "call_off",
    [PendingTable.supersede, PendingTable.end_drain, lambda table: table.begin_drain(0)],
    ids=["supersede", "end_drain", "begin_drain"],
)
def test_a_drain_that_is_called_off_supersedes_its_waiters(
    wait: Wait, call_off: Callable[[PendingTable], object]
) -> None:
    table = busy_table(1, 1)
    table.begin_drain(1)
    waiting = [Waiting(table, wait) for _ in range(3)]
    call_off(table)
    assert [each.result().outcome for each in waiting] == ["superseded"] * 3
    assert table.statistics()["superseded"] == 1


def test_who_comes_late_is_told_how_it_ended(wait: Wait) -> None:
    table = busy_table(1)
    assert wait(table, LONG_NS).outcome == "drained"  # no drain yet: open
    table.begin_drain(0)
    table.supersede()
    assert not table.drained
    assert wait(table, LONG_NS).outcome == "superseded"
    table.begin_drain(0)
    table.count(0, 0, -1)
    assert not table.supersede()  # it has drained: nothing is called off
    table.count(0, 0, 1)
    assert table.drained  # and what comes afterwards is not its affair
    assert wait(table, LONG_NS).outcome == "drained"


def test_a_reply_that_becomes_outstanding_closes_the_gate_again() -> None:
    table = busy_table(1)
    table.begin_drain(0)
    assert table.count(0, 0, -1)
    assert not table.count(0, 0, 1)
    assert not table.drained
    assert table.wait_for_wake(NS_PER_MS).outcome == "deadline"
    assert table.count(0, 0, -1)
    assert table.wait_for_wake(LONG_NS).outcome == "drained"


@pytest.mark.parametrize("number", [-1, 2**63])
def test_durations_out_of_bounds_are_refused(number: int) -> None:
    table = busy_table(1)
    table.begin_drain(0)
    with pytest.raises(ValueError, match="timeout_ns"):
        table.wait_for_wake(number)
    with pytest.raises(ValueError, match="timeout_ns"):
        table.wait_by_polling(1, number)
    with pytest.raises(ValueError, match="interval_ns"):
        table.wait_by_polling(number, 1)
    with pytest.raises(ValueError, match="interval_ns"):
        table.wait_by_polling(0, 1)


def test_the_longest_timeout_does_not_overflow(wait: Wait) -> None:
    table = busy_table(1)
    table.begin_drain(0)
    waiting = Waiting(table, wait, 2**63 - 1)
    table.count(0, 0, -1)
    assert waiting.result().outcome == "drained"


def test_a_table_that_is_waited_for_stays_alive() -> None:
    table = busy_table(1)
    table.begin_drain(0)
    alive = weakref.ref(table)
    results: list[DrainWait] = []
    thread = threading.Thread(target=lambda wait: results.append(wait(20 * NS_PER_MS)), args=(table.wait_for_wake,))
    thread.start()
    del table
    gc.collect()
    thread.join(60)
    assert results[0].outcome == "deadline"
    del thread
    gc.collect()
    assert alive() is None


def test_a_table_gives_its_memory_back() -> None:
    def mapped_bytes() -> int:
        gc.collect()
        return psutil.Process().memory_info().vms

    before = mapped_bytes()
    for _ in range(40):
        PendingTable().attach(2**18 - 1, 0)  # about 20 MB, mapped and not touched
    assert mapped_bytes() - before < 400_000_000


class Rang(Exception):
    pass


@contextmanager
def alarm(handler: Callable[[], None]) -> Iterator[None]:
    """Call the handler from a signal, soon and again and again."""
    old = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("interval_ns", [None, LONG_NS], ids=["wake", "poll"])
def test_a_signal_handler_runs_during_a_wait(interval_ns: int | None) -> None:
    """As Ctrl-C must: one that raises ends the wait, one that returns does not."""
    table = busy_table(1)
    table.begin_drain(0)

    def wait() -> DrainWait:
        return table.wait_for_wake(LONG_NS) if interval_ns is None else table.wait_by_polling(interval_ns, LONG_NS)

    rings: list[int] = []

    def ring() -> None:
        rings.append(1)
        if len(rings) == 1:
            raise Rang

    with pytest.raises(Rang), alarm(ring):
        wait()
    rings.clear()

    def answer() -> None:
        rings.append(1)
        if len(rings) == 3:
            table.count(0, 0, -1)

    with alarm(answer):
        assert wait().outcome == "drained"
    assert len(rings) >= 3
    assert table.statistics()["waiting"] == 0


def test_waiters_beside_a_table_that_grows_and_drains() -> None:
    """What the sanitizers look at: waits without the lock, while the I/O side moves the arrays under them."""
    table = PendingTable()
    for round_ in range(40):
        table.attach(round_ * 20, 1)
        table.set_connected(round_ * 20, 1, True)
        table.count(round_ * 20, 1, 30)
        assert table.begin_drain(1) == 30
        waiting = [Waiting(table, wait, at_once=True) for wait in WAITS.values() for _ in range(2)]
        for left in reversed(range(30)):
            table.attach(round_ * 20 + 1 + left % 19, 2 + left)
            assert table.count(round_ * 20, 1, -1) is (left == 0)
        assert {each.result().outcome for each in waiting} == {"drained"}
        table.end_drain()
    assert table.statistics()["waits"] == 160
    assert table.consistent()


# the interpreter lock


@contextmanager
def other_thread() -> Iterator[list[int]]:
    """Another Python thread that wants the lock at every moment, and gives it up at every turn; the list counts turns.

    The switch interval is so long that nothing but the calls under test makes this thread give the lock up.
    """
    turns = [0]
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            turns[0] += 1
            time.sleep(0)

    old = sys.getswitchinterval()
    sys.setswitchinterval(LONG_NS / NS_PER_S)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while turns[0] < 100:
            time.sleep(0.001)
        yield turns
    finally:
        over.set()
        sys.setswitchinterval(old)
        thread.join(60)


def test_the_short_calls_keep_the_interpreter_lock() -> None:
    table = busy_table(1, 1)
    with other_thread() as turns:
        before = turns[0]
        for _ in range(2000):
            table.count(0, 1, 1)
            table.any_pending(1)
            table.scan_pending(0)
            table.pending_total(0)
            table.begin_drain(1)
            table.count(0, 1, -1)
            table.has_pending_operations(0, 1)
            table.end_drain()
        after = turns[0]
    assert after == before


def test_a_wait_releases_the_interpreter_lock(wait: Wait) -> None:
    table = busy_table(1)
    table.begin_drain(0)
    with other_thread() as turns:
        before = turns[0]
        while turns[0] == before:
            assert wait(table, 5 * NS_PER_MS).outcome == "deadline"
    # nothing else in that loop gives the lock up: without the release it would not end before the watchdog


def test_the_generated_c_lets_go_of_the_lock_where_it_waits_alone(tmp_path: Path) -> None:
    recipe = runpy.run_path(str(ROOT / "src/coordemu/_build_native.py"))
    generated = tmp_path / "_native.c"
    recipe["ffibuilder"].emit_c_code(str(generated))
    lines = generated.read_text().splitlines()
    emptied = lines.index("#define Py_BEGIN_ALLOW_THREADS {")
    assert lines.index("#define Py_END_ALLOW_THREADS }") == emptied + 1
    first_wrapper = next(at for at, line in enumerate(lines) if line.startswith("_cffi_f_"))
    assert emptied < first_wrapper
    assert not any("define" in line and "ALLOW_THREADS" in line for line in lines[first_wrapper:])
    assert "  Py_BEGIN_ALLOW_THREADS" in lines[first_wrapper:]  # cffi still wraps in what was emptied
    # The waits of a drain, of a thread and of a loop, and the waking of a thread that is to have the lock.
    assert sum("PyEval_SaveThread" in line for line in lines) == 4
    assert sum("PyEval_RestoreThread" in line for line in lines) == 1


def test_the_extension_is_one_for_the_limited_api_and_the_one_meant() -> None:
    path = Path(_native.__file__).resolve()
    assert path.name == "_native.abi3.so"
    assert path.parent == Path(coordemu.__file__).resolve().parent
    sanitized = os.environ.get("COORDEMU_SANITIZED")  # set by .ci/sanitize, which means no other
    assert sanitized is None or path.is_relative_to(sanitized)
