"""The listener: what is told, in which order, and that the counts add up to what there is."""

from __future__ import annotations

import pytest

from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_errors import DeadlineExceeded, HookRefused, PoolTimeout
from coordemu.pool.pool_hooks import PlainHook
from coordemu.pool.pool_listener import PlainListener, PoolCounts
from coordemu.runtime.base import NS_PER_MS


class Recorder(PlainListener):
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def created(self, conn, took_ns):
        self.told.append(("created", conn.conn_id, took_ns))

    def waited(self, waited_ns):
        self.told.append(("waited", waited_ns))

    def timed_out(self, waited_ns):
        self.told.append(("timed out", waited_ns))

    def closed(self, conn, reason):
        self.told.append(("closed", conn.conn_id, reason))

    def counted(self, state, change):
        self.told.append(f"{state}{change:+}")

    def take(self):
        told, self.told = self.told, []
        return told

    def changes(self):
        return [entry for entry in self.take() if isinstance(entry, str)]

    def of(self, kind):
        return [entry for entry in self.told if entry[0] == kind]


@pytest.fixture
def recorder():
    return Recorder()


def test_a_get_a_put_and_a_remove_are_told(rt, make_pool, dialer, recorder, rested):
    pool = make_pool(pool_size=1, listener=recorder)
    loan = pool.get()
    told = recorder.take()
    assert [entry for entry in told if isinstance(entry, str)] == ["used+1"]
    assert told[0] == ("waited", 0)
    assert told[-1][:2] == ("created", 1)
    pool.put(loan)
    assert recorder.changes() == ["used-1", "idle+1"]
    loan = pool.get()
    assert recorder.take() == [("waited", 0), "idle-1", "used+1"]
    pool.remove(loan, "broken")
    assert recorder.take() == ["used-1", ("closed", 1, "broken")]
    rested(pool)


def test_the_time_to_create_is_the_dial_and_the_handshake(rt, make_pool, dialer, recorder, rested):
    dialer.takes_ns = 20 * NS_PER_MS
    pool = make_pool(pool_size=1, listener=recorder, initialize=lambda conn: rt.sleep_ns(10 * NS_PER_MS))
    pool.put(pool.get())
    ((_, _, took_ns),) = recorder.of("created")
    assert took_ns >= 30 * NS_PER_MS
    recorder.take()
    pool.put(pool.get())
    assert not recorder.of("created")
    rested(pool)


def test_the_idle_time_of_a_warm_up_is_not_in_its_time_to_create(rt, make_pool, dialer, recorder, until, rested):
    dialer.takes_ns = 5 * NS_PER_MS
    pool = make_pool(pool_size=1, min_idle_conns=1, listener=recorder)
    until(lambda: len(pool.register.idle) == 1 and not pool.turns.held)
    assert recorder.changes() == ["idle+1"]
    was_ns = next(iter(pool.register.conns.values())).dial_ns
    rt.sleep_ns(30 * NS_PER_MS)
    began_ns = rt.now_ns()
    pool.put(pool.get())
    took_ns = rt.now_ns() - began_ns
    ((_, _, told_ns),) = recorder.of("created")
    assert 5 * NS_PER_MS <= was_ns <= told_ns <= was_ns + took_ns
    rested(pool)


def test_nothing_was_created_when_the_handshake_or_a_hook_refuses(make_pool, recorder, rested):
    def refuse(conn):
        raise ConnectionError("NOAUTH")

    pool = make_pool(pool_size=1, listener=recorder, initialize=refuse)
    with pytest.raises(ConnectionError):
        pool.get()
    assert not recorder.of("created")
    assert recorder.take()[1:] == ["used+1", "used-1", ("closed", 1, "init_error")]
    rested(pool)

    class Refuse(PlainHook):
        def on_get(self, conn, is_new):
            return False

    other = make_pool(pool_size=1, listener=recorder, name="other")
    other.add_hook(Refuse())
    with pytest.raises(HookRefused):
        other.get()
    assert not recorder.of("created")
    assert recorder.take()[1:] == ["used+1", "used-1", ("closed", 1, "hook_error")]
    rested(other)


def test_the_wait_told_excludes_the_dial(make_pool, dialer, recorder, rested):
    dialer.takes_ns = 40 * NS_PER_MS
    pool = make_pool(pool_size=1, listener=recorder)
    pool.put(pool.get())
    assert recorder.of("waited") == [("waited", 0)]
    rested(pool)


def test_a_wait_in_line_and_one_that_was_too_long_are_told(rt, make_pool, start, until, recorder, rested):
    pool = make_pool(pool_size=1, listener=recorder)
    loan = pool.get()
    call = start(pool.get)
    until(lambda: pool.turns.waiting == 1)
    rt.sleep_ns(10 * NS_PER_MS)
    pool.put(loan)
    pool.put(call.join())
    assert recorder.of("waited")[0] == ("waited", 0)
    assert recorder.of("waited")[1][1] >= 10 * NS_PER_MS
    hurried = make_pool(pool_size=1, pool_timeout_ms=5, listener=recorder, name="hurried")
    held = hurried.get()
    recorder.take()
    with pytest.raises(PoolTimeout):
        hurried.get()
    ((kind, waited_ns),) = recorder.take()
    assert kind == "timed out"
    assert waited_ns >= 5 * NS_PER_MS
    hurried.put(held)
    rested(pool)


def test_a_drainer_is_told_as_one_that_uses_them(make_pool, recorder, rested):
    pool = make_pool(pool_size=1, listener=recorder)
    pool.put(pool.get())
    recorder.take()
    pool.drain_idle(lambda conn: None)
    assert recorder.changes() == ["idle-1", "used+1", "used-1", "idle+1"]
    rested(pool)


def test_reasons_of_closes(make_pool, recorder):
    pool = make_pool(pool_size=3, max_idle_conns=2, conn_max_idle_time_ms=60_000, listener=recorder)
    loans = [pool.get() for _ in range(3)]
    for loan in loans:
        pool.put(loan)
    for conn in pool.register.conns.values():
        conn.used_ns -= 120_000 * NS_PER_MS
    held = pool.get()
    assert pool.filter(lambda conn: True) == 0
    pool.put(held)
    pool.put(pool.get())
    pool.retire("maintnotifications_disabled")
    pool.put(pool.get())
    pool.close()
    reasons = [reason for _, _, reason in recorder.of("closed")]
    assert reasons == ["evicted", "stale", "stale", "failover", "maintnotifications_disabled", "pool_shutdown"]
    changes = recorder.changes()
    for state in ("used", "idle"):
        assert changes.count(f"{state}+1") == changes.count(f"{state}-1") > 0


def test_a_refused_idle_one_is_told_as_back(make_pool, recorder, rested):
    class Refuse(PlainHook):
        on = False

        def on_get(self, conn, is_new):
            return is_new or not self.on

    pool = make_pool(pool_size=2, get_attempts=1, listener=recorder)
    hook = Refuse()
    pool.add_hook(hook)
    pool.put(pool.get())
    hook.on = True
    recorder.take()
    pool.put(pool.get())
    assert recorder.changes() == ["idle-1", "used+1", "used-1", "idle+1", "used+1", "used-1", "idle+1"]
    rested(pool)


def test_what_a_listener_raises_is_logged_and_hinders_nothing(make_pool, rested):
    lines = []

    class Bad(PlainListener):
        def waited(self, waited_ns):
            raise ValueError("no metrics here")

    pool = make_pool(pool_size=1, listener=Bad(), log=lambda *line: lines.append(line))
    pool.put(pool.get())
    assert lines == [("warning", "pool: a listener failed at waited: no metrics here")]
    rested(pool)


def test_counts_add_up_to_what_there_is(rt, make_pool, start, until, rested):
    counts = PoolCounts(rt)
    pool = make_pool(pool_size=3, max_idle_conns=2, min_idle_conns=1, listener=counts)

    def caller(number):
        for turn in range(20):
            loan = pool.get()
            rt.sleep_ns(0)
            if (number + turn) % 7:
                pool.put(loan)
            else:
                pool.remove(loan, "broken")

    calls = [start(lambda number=number: caller(number)) for number in range(6)]
    for call in calls:
        call.join()
    until(lambda: not pool.turns.held and not pool.register.dialing)
    rested(pool)
    told = counts.statistics()
    statistics = pool.statistics()
    assert (told["idle"], told["used"]) == (statistics["idle"], 0)
    assert (told["closed"], counts.reasons()) == (statistics["stale"], pool.removals())
    assert told["turns"] == 120
    assert told["created"] <= statistics["attempts"]
    assert told["longest_wait_ns"] <= told["wait_ns"]
    held = pool.get()
    assert counts.statistics()["used"] == 1
    assert repr(counts).startswith("<PoolCounts")
    pool.close()
    pool.put(held)
    told = counts.statistics()
    assert (told["idle"], told["used"]) == (0, 0)
    assert counts.reasons()["pool_shutdown"] >= 1


def test_a_connection_beside_the_pool_is_told(make_pool, recorder):
    pool = make_pool(pool_size=1, listener=recorder)
    beside = pool.new_conn()
    pool.close_conn(beside)
    assert recorder.changes() == ["used+1", "used-1"]


def test_an_abandoned_dial_is_told_as_idle(rt, make_pool, dialer, until, recorder, rested):
    dialer.takes_ns = 30 * NS_PER_MS

    pool = make_pool(pool_size=1, listener=recorder)
    with pytest.raises(DeadlineExceeded):
        pool.get(PoolContext.after(rt, 5 * NS_PER_MS))
    until(lambda: not pool.turns.held)
    assert recorder.changes() == ["idle+1"]
    rested(pool)
