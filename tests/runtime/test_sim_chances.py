"""What is legal but rare: other waiters, spurious wake-ups, parts of a delivery, slow pieces. Only when asked for."""

from __future__ import annotations

import pytest

from coordemu.runtime.base import NS_PER_MS, Address
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_core import SPURIOUS_LIMIT
from coordemu.runtime.sim_schedule import PICK_KEY, Replay, Schedule, SimDivergence, make_strategy
from coordemu.runtime.transport_state import NoHandler

CHANCES = 0.3


def run(scenario, strategy, **options):
    rt = SimRuntime(strategy, **options)
    seen = []
    outcome = rt.run(lambda: seen.append(scenario(rt)), name="test").check()
    return seen[0], outcome


def results(scenario, chances, seeds=150, name="random"):
    return {run(scenario, make_strategy(name, seed, 60), chances=chances)[0] for seed in range(seeds)}


def who_is_notified(rt):
    """Three wait, in a known order; one is notified: who is it?"""
    lock, order = rt.lock("L"), []
    condition = rt.condition(lock, "C")
    told = rt.cell(0, "told")

    def wait(name):
        with lock:
            while not told.value:
                condition.wait()
            told.value -= 1
            order.append(name)

    tasks = [rt.spawn(wait, name, name=name) for name in "abc"]
    rt.poll_until(lambda: len(condition.waiters()) == 3, NS_PER_MS, "all wait")
    first = "".join(task.name for task in condition.waiters())
    for number in range(3):
        with lock:
            told.value += 1
            condition.notify()
        rt.poll_until(lambda number=number: len(order) > number, NS_PER_MS, "one went on")
    for task in tasks:
        task.join()
    return "".join(str(first.index(name)) for name in order)


def waits_once(rt):
    """A wait with an if around it: does it return before anybody has notified?"""
    lock = rt.lock("L")
    condition = rt.condition(lock, "C")
    notified = []

    def notify():
        rt.sleep_ns(NS_PER_MS)
        with lock:
            notified.append(True)
            condition.notify()

    rt.spawn(notify, name="notifier")
    with lock:
        returned = condition.wait()
    assert returned
    return not notified


def one_for_two(rt):
    """Two wait, one notification: how many wake from it?"""
    lock = rt.lock("L")
    condition = rt.condition(lock, "C")
    woken = []

    def wait():
        with lock:
            woken.append(condition.wait(NS_PER_MS * 50))

    tasks = [rt.spawn(wait, name=f"w{number}") for number in range(2)]
    rt.sleep_ns(NS_PER_MS)
    alone = not woken
    with lock:
        condition.notify()
    for task in tasks:
        task.join()
    return sum(woken) if alone else 0


class Peer(NoHandler):
    """Notes what comes, and in which order among its kind."""

    def __init__(self, name, note):
        self.chunks = []
        self.connected = False
        self.transport = None
        self._name = name
        self._note = note

    def on_connect(self):
        self.connected = True

    def on_data(self, data):
        self.chunks.append(data)
        self._note.append(self._name)


def pairs(rt, loop, count, away=None):
    """Connected clients, the notes of all of them, and their accepted peers."""
    notes, accepted = [], []

    def accept(transport):
        accepted.append(Peer(f"s{len(accepted)}", notes))
        accepted[-1].transport = transport
        return accepted[-1]

    listener = loop.listen(Address(), accept)
    clients = []
    for number in range(count):
        clients.append(Peer(f"c{number}", notes))
        clients[-1].transport = (away or loop).connect(listener.address, clients[-1])
        while not clients[-1].connected or len(accepted) <= number:
            for each in (loop, away or loop):
                each.run_once(NS_PER_MS)
    return clients, accepted, notes


def sizes_of_reads(rt):
    """In which parts do ten bytes come?"""
    loop = rt.loop("io")
    (client,), (server,), _ = pairs(rt, loop, 1)
    client.transport.write(b"0123456789")
    while sum(map(len, server.chunks)) < 10:
        loop.run_once(None)
    assert b"".join(server.chunks) == b"0123456789"
    loop.close()
    return tuple(map(len, server.chunks))


def who_is_served_first(rt):
    """Three sockets are ready in one poll, and became so in a known order."""
    loop, away = rt.loop("io"), rt.loop("away")
    clients, _, notes = pairs(rt, loop, 3, away)
    for client in clients:
        client.transport.write(b"x")
        away.run_once(0)
        rt.sleep_ns(NS_PER_MS * 100)
    while len(notes) < 3:
        loop.run_once(None)
    loop.close()
    away.close()
    return "".join(notes)


def how_long_it_takes(rt):
    """From a write to the arrival, and always in order."""
    loop = rt.loop("io")
    (client,), (server,), _ = pairs(rt, loop, 1)
    began_ns = rt.now_ns()
    client.transport.write(b"1")
    loop.run_once(0)
    client.transport.write(b"2")
    while b"".join(server.chunks) != b"12":
        assert b"12".startswith(b"".join(server.chunks))
        loop.run_once(None)
    loop.close()
    return (rt.now_ns() - began_ns) // NS_PER_MS


SCENARIOS = {
    who_is_notified: ({"012"}, lambda seen: len(seen) >= 5),
    waits_once: ({False}, lambda seen: seen == {True, False}),
    one_for_two: ({1}, lambda seen: seen >= {1, 2}),
    sizes_of_reads: ({(10,)}, lambda seen: {(10,), (5, 5), (1, 9)} <= seen),
    # The last was watched since the last poll, and is looked at first.
    who_is_served_first: ({"s2s0s1"}, lambda seen: {"s2s0s1", "s0s2s1", "s1s2s0"} <= seen),
    how_long_it_takes: ({0}, lambda seen: {0, 1, 20} <= seen),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_chance_is_taken_when_asked_for_and_never_otherwise(scenario):
    plain, enough = SCENARIOS[scenario]
    assert results(scenario, chances=0.0) == plain
    seen = results(scenario, CHANCES)
    assert plain < seen
    assert enough(seen)
    assert results(scenario, CHANCES, seeds=1, name="run-on") == plain


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_replay_takes_the_same_chances(scenario):
    plain = SCENARIOS[scenario][0]
    for seed in range(150):
        result, outcome = run(scenario, make_strategy("random", seed), chances=CHANCES)
        if result not in plain:
            break
    assert any(key == PICK_KEY for key, _ in outcome.schedule.steps)
    replay = Replay(outcome.schedule)
    again, repeated = run(scenario, replay, chances=CHANCES)
    assert (again, repeated.schedule.steps, replay.left) == (result, outcome.schedule.steps, 0)
    assert result not in plain


def test_without_chances_no_pick_is_recorded():
    for scenario in SCENARIOS:
        _, outcome = run(scenario, make_strategy("random", 1))
        assert all(key != PICK_KEY for key, _ in outcome.schedule.steps)


def test_a_semaphore_is_first_come_first_served_whatever_the_chances():
    def scenario(rt):
        tickets, order = rt.semaphore(0, "tickets"), []

        def take(name):
            tickets.acquire()
            order.append(name)

        tasks = []
        for name in "abc":
            tasks.append(rt.spawn(take, name, name=name))
            rt.poll_until(lambda: len(tickets.waiters()) == len(tasks), NS_PER_MS, "it waits")
        for number in range(3):
            tickets.release()
            rt.poll_until(lambda number=number: len(order) > number, NS_PER_MS, "one went on")
        return "".join(order)

    assert results(scenario, 1.0, seeds=40) == {"abc"}


def test_spurious_wake_ups_are_bounded_so_that_a_run_ends():
    def scenario(rt):
        lock = rt.lock("L")
        condition = rt.condition(lock, "C")
        waits, done = [], []

        def end():
            rt.sleep_ns(NS_PER_MS)
            with lock:
                done.append(True)
                condition.notify_all()

        rt.spawn(end, name="end")
        with lock:
            while not done:
                condition.wait()
                waits.append(True)
        return len(waits)

    waits, _ = run(scenario, make_strategy("random", 1), chances=1.0)
    assert waits == SPURIOUS_LIMIT + 1


def test_a_calm_stretch_takes_no_chances():
    def scenario(rt):
        rt.calm = True
        seen = sizes_of_reads(rt)
        rt.calm = False
        return seen

    assert results(scenario, 1.0, seeds=5) == {(10,)}


def test_a_pick_that_does_not_fit_is_named_wherever_it_is_asked():
    """Also in the middle of a step, of a task or of none."""
    for scenario in SCENARIOS:
        _, outcome = run(scenario, make_strategy("random", 3), chances=CHANCES)
        steps = list(outcome.schedule.steps)
        for at in (number for number, (key, _) in enumerate(outcome.schedule.steps) if key == PICK_KEY):
            changed = [*steps[:at], (PICK_KEY, "something else: 1 of 2"), *steps[at + 1 :]]
            rt = SimRuntime(Replay(Schedule("random", "idle", tuple(changed))), chances=CHANCES)
            ended = rt.run(lambda rt=rt, scenario=scenario: scenario(rt), name="test")
            assert ended.kind == "diverged"
            assert isinstance(ended.error, SimDivergence)
            assert ended.error.step == at + 1
            assert list(ended.schedule.steps) == steps[:at]
