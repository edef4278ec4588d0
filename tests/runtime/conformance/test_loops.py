"""Loops: turns, timers, async handles, hooks, nested turns, on every runtime."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, NS_PER_S


def turn_until(loop, predicate):
    """Turn the loop until the predicate holds; bounded, since each turn waits for something to happen."""
    for _ in range(10_000):
        if predicate():
            return
        loop.run_once(10 * NS_PER_MS)
    raise AssertionError("the loop never got there")


def test_timers_fire_in_the_order_of_their_deadlines_and_not_too_early(rt, loop):
    fired = []
    start = rt.now_ns()
    for delay_ms in (3, 1, 2):
        loop.timer(lambda d=delay_ms: fired.append((d, rt.now_ns() - start >= d * NS_PER_MS)), f"t{delay_ms}").start(
            delay_ms * NS_PER_MS
        )
    turn_until(loop, lambda: len(fired) == 3)
    assert fired == [(1, True), (2, True), (3, True)]


def test_timers_without_delay_fire_in_the_order_of_their_start(loop):
    fired = []
    for i in range(5):
        loop.timer(lambda i=i: fired.append(i), f"t{i}").start(0)
    turn_until(loop, lambda: len(fired) == 5)
    assert fired == [0, 1, 2, 3, 4]


def test_a_timer_without_delay_started_in_a_callback_waits_for_the_next_turn(loop):
    turns = []

    def again():
        turns.append(loop.statistics()["turns"])
        if len(turns) < 4:
            timer.start(0)

    timer = loop.timer(again, "again")
    timer.start(0)
    turn_until(loop, lambda: len(turns) == 4)
    assert len(set(turns)) == 4


def test_a_timer_is_active_from_start_to_firing(loop):
    seen = []
    timer = loop.timer(lambda: seen.append(timer.active), "once")
    assert timer.name == "once"
    assert not timer.active
    timer.start(0)
    assert timer.active
    turn_until(loop, lambda: seen)
    assert seen == [False]
    assert loop.run_once(0) == 0


def test_a_repeating_timer_repeats_until_it_is_stopped_in_its_callback(rt, loop):
    at = []

    def tick():
        at.append(rt.now_ns())
        assert timer.active
        if len(at) == 4:
            timer.stop()

    timer = loop.timer(tick, "tick")
    start = rt.now_ns()
    timer.start(0, NS_PER_MS)
    turn_until(loop, lambda: len(at) == 4)
    assert not timer.active
    assert at[3] - start >= 3 * NS_PER_MS
    loop.run_once(3 * NS_PER_MS)
    assert len(at) == 4


def test_a_stopped_restarted_or_closed_timer_does_not_fire_its_old_time(rt, loop):
    fired = []
    stopped = loop.timer(lambda: fired.append("stopped"), "stopped")
    restarted = loop.timer(lambda: fired.append("restarted"), "restarted")
    closed = loop.timer(lambda: fired.append("closed"), "closed")
    last = loop.timer(lambda: fired.append("last"), "last")
    for timer in (stopped, restarted, closed):
        timer.start(0)
    stopped.stop()
    stopped.stop()
    closed.close()
    restarted.start(2 * NS_PER_MS)
    last.start(3 * NS_PER_MS)
    turn_until(loop, lambda: "last" in fired)
    assert fired == ["restarted", "last"]


def test_a_timer_that_another_callback_of_the_turn_stops_does_not_fire(loop):
    fired = []
    second = loop.timer(lambda: fired.append("second"), "second")
    first = loop.timer(lambda: (fired.append("first"), second.stop()), "first")
    first.start(0)
    second.start(0)
    turn_until(loop, lambda: fired)
    loop.run_once(NS_PER_MS)
    assert fired == ["first"]


def test_a_timer_refuses_a_negative_time(loop):
    timer = loop.timer(lambda: None, "t")
    with pytest.raises(ValueError, match="-1"):
        timer.start(-1)
    with pytest.raises(ValueError, match="-1"):
        timer.start(0, -1)
    assert not timer.active


def test_sends_before_the_callback_count_as_one(rt, loop):
    calls = []
    handle = loop.async_handle(lambda: calls.append(rt.current()), "requests")
    assert handle.name == "requests"
    senders = [rt.spawn(lambda: [handle.send() for _ in range(100)], name=f"s{i}") for i in range(3)]
    assert all(task.join(10 * NS_PER_S) for task in senders)
    assert loop.run_once(0) == 1
    assert calls == [rt.current()]
    assert loop.run_once(0) == 0
    handle.send()
    assert loop.run_once(0) == 1


def test_posted_work_runs_once_in_the_order_of_posting(rt, loop):
    ran = []

    def first():
        ran.append("first")
        loop.post(lambda: ran.append("posted meanwhile"), "work")

    def others():
        loop.post(first, "work")
        loop.post(lambda: ran.append("second"), "work")

    rt.spawn(others, name="others").join()
    assert loop.run_once() == 2
    assert ran == ["first", "second"]
    assert loop.run_once() == 1
    assert ran == ["first", "second", "posted meanwhile"]
    assert loop.run_once() == 0


def test_what_is_posted_to_a_closed_loop_is_dropped(rt, loop):
    loop.close()
    loop.post(lambda: 1 / 0, "work")


def test_a_send_wakes_a_loop_that_waits(rt, loop):
    handle = loop.async_handle(loop.stop, "shutdown")
    io = rt.spawn(loop.run, name="io")
    handle.send()
    assert io.join(10 * NS_PER_S)
    assert io.error is None


def test_no_send_is_lost_between_two_tasks(rt, loop):
    """Ping-pong: were one wake-up lost, both would wait for ever."""
    there = rt.event("there")
    handle = loop.async_handle(there.set, "ping")
    io = rt.spawn(loop.run, name="io")
    for _ in range(300):
        handle.send()
        assert there.wait(10 * NS_PER_S)
        there.clear()
    loop.stop()
    assert io.join(10 * NS_PER_S)


def test_a_send_in_the_callback_counts_anew_in_a_later_turn(loop):
    turns = []

    def callback():
        turns.append(loop.statistics()["turns"])
        if len(turns) < 3:
            handle.send()

    handle = loop.async_handle(callback, "again")
    handle.send()
    turn_until(loop, lambda: len(turns) == 3)
    assert len(set(turns)) == 3


def test_a_closed_handle_is_silent(loop):
    calls = []
    handle = loop.async_handle(lambda: calls.append(1), "h")
    handle.send()
    handle.close()
    handle.send()
    handle.close()
    loop.run_once(0)
    assert calls == []


def test_a_stop_before_run_ends_the_next_run_and_only_that(rt, loop):
    loop.stop()
    loop.run()
    timer = loop.timer(loop.stop, "stop")
    before = rt.now_ns()
    timer.start(NS_PER_MS)
    loop.run()
    assert rt.now_ns() - before >= NS_PER_MS


def test_a_stop_lets_no_turn_wait(loop):
    loop.stop()
    assert loop.run_once(None) == 0
    loop.run()
    loop.set_poll_hooks(loop.stop, None)
    assert loop.run_once(None) == 0


def test_stop_from_another_task_ends_a_run_that_waits(rt, loop):
    io = rt.spawn(loop.run, name="io")
    loop.stop()
    assert io.join(10 * NS_PER_S)


def test_run_once_waits_no_longer_than_it_may(rt, loop):
    before = rt.now_ns()
    assert loop.run_once(3 * NS_PER_MS) == 0
    assert rt.now_ns() - before >= 2 * NS_PER_MS
    loop.timer(lambda: None, "far").start(60 * NS_PER_S)
    assert loop.run_once(0) == 0
    assert loop.run_once(NS_PER_MS) == 0


def test_run_once_without_a_limit_waits_for_the_next_timer(loop):
    fired = []
    loop.timer(lambda: fired.append(1), "t").start(2 * NS_PER_MS)
    for _ in range(100):
        if loop.run_once(None):
            break
    assert fired == [1]


def test_a_callback_may_run_a_nested_turn(loop):
    order = []

    def outer():
        order.append("outer begins")
        while "inner" not in order:
            loop.run_once(NS_PER_MS)
        order.append("outer ends")

    handle = loop.async_handle(lambda: order.append("inner"), "inner")
    first = loop.timer(outer, "outer")
    loop.timer(handle.send, "sender").start(0)
    first.start(0)
    turn_until(loop, lambda: "outer ends" in order)
    assert order == ["outer begins", "inner", "outer ends"]


def test_a_stop_inside_a_nested_turn_ends_the_run(loop):
    def outer():
        loop.timer(loop.stop, "stop").start(0)
        for _ in range(3):
            loop.run_once(NS_PER_MS)

    loop.timer(outer, "outer").start(0)
    loop.run()


def test_the_hooks_surround_every_poll_nested_ones_too(rt, loop):
    lock = rt.lock("module lock")
    log = []

    def before():
        log.append("before")
        lock.release()

    def after():
        lock.acquire()
        log.append("after")

    owners = []

    def nested():
        owners.append(lock.owner)
        loop.run_once(0)
        owners.append(lock.owner)

    loop.set_poll_hooks(before, after)
    loop.timer(nested, "t").start(0)
    lock.acquire()
    turn_until(loop, lambda: owners)
    assert owners == [rt.current()] * 2
    lock.release()
    assert log[:2] == ["before", "after"]
    assert log == ["before", "after"] * (len(log) // 2)
    assert len(log) // 2 == loop.statistics()["turns"]
    loop.set_poll_hooks(None, None)
    loop.run_once(0)


def test_a_task_in_a_poll_counts_as_running(rt, loop, until):
    polling = rt.event("polling")
    loop.set_poll_hooks(polling.set, None)
    io = rt.spawn(loop.run, name="io")
    assert polling.wait(10 * NS_PER_S)
    assert io.waiting_on is None
    loop.stop()
    io.join()


def test_what_a_callback_raises_ends_run_and_the_loop_goes_on_after_it(rt, loop):
    calls = []
    loop.timer(lambda: 1 // 0, "faulty").start(0)
    with pytest.raises(ZeroDivisionError):
        loop.run()
    handle = loop.async_handle(lambda: (calls.append(1), loop.stop()), "h")
    sender = rt.spawn(handle.send, name="sender")
    loop.run()
    sender.join()
    assert calls == [1]


def test_a_send_that_races_with_a_failing_callback_is_not_lost(rt, loop):
    """The wake-up has reached the poll, and an earlier callback of that turn fails: later sends must still wake."""
    bad = loop.async_handle(lambda: 1 // 0, "bad")
    good = loop.async_handle(loop.stop, "good")
    for _ in range(3):
        io = rt.spawn(loop.run, name="io")
        bad.send()
        assert io.join(10 * NS_PER_S)
        assert isinstance(io.error, ZeroDivisionError)
    io = rt.spawn(loop.run, name="io")
    good.send()
    assert io.join(10 * NS_PER_S)


def test_a_running_loop_is_not_run_again_nor_closed_nor_used_by_another_task(rt, loop):
    errors = []

    def inside():
        for call in (loop.run, loop.close):
            with pytest.raises(RuntimeError) as info:
                call()
            errors.append(str(info.value))
        stranger = rt.spawn(loop.run_once, name="stranger")
        stranger.join()
        errors.append(str(stranger.error))
        loop.stop()

    loop.timer(inside, "t").start(0)
    loop.run()
    assert len(errors) == 3
    assert all("'io'" in error for error in errors)


def test_a_write_from_another_task_is_refused_while_the_loop_runs(rt, net, loop):
    client, server = net.pair()
    errors = []

    def inside():
        stranger = rt.spawn(client.transport.write, b"wrong task", name="stranger")
        stranger.join()
        errors.append(str(stranger.error))
        client.transport.write(b"right task")
        loop.stop()

    loop.timer(inside, "t").start(0)
    loop.run()
    assert "'io'" in errors[0]
    net.until(lambda: server.data == b"right task")


def test_a_closed_loop_refuses_and_is_silent(rt):
    loop = rt.loop("short")
    timer = loop.timer(lambda: None, "t")
    armed = loop.timer(lambda: None, "armed")
    armed.start(0)
    handle = loop.async_handle(lambda: None, "h")
    loop.close()
    loop.close()
    handle.send()
    loop.stop()
    timer.stop()
    timer.close()
    assert not armed.active
    for refused in (loop.run, loop.run_once, lambda: timer.start(0), lambda: loop.timer(print, "t")):
        with pytest.raises(RuntimeError, match="'short'"):
            refused()


def test_another_task_may_turn_a_loop_once_the_first_has_stopped(rt, loop):
    io = rt.spawn(loop.run, name="io")
    loop.stop()
    io.join()
    fired = []
    loop.timer(lambda: fired.append(rt.current()), "t").start(0)
    turn_until(loop, lambda: fired)
    assert fired == [rt.current()]


def test_statistics_count_turns_and_callbacks(loop):
    before = loop.statistics()
    handle = loop.async_handle(lambda: None, "h")
    handle.send()
    loop.run_once(0)
    after = loop.statistics()
    assert after["turns"] == before["turns"] + 1
    assert after["callbacks"] == before["callbacks"] + 1
    assert {"turns", "callbacks", "wake_ups", "bytes_in", "bytes_out", "transports"} <= set(after)
