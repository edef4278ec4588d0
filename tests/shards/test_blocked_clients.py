"""Clients that wait for lists and streams: who is served, in which order, and what those lose that end. On both
runtimes; beside a real Redis; and in hundreds of orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
import pytest
from harness import harness_fixture, rt, until

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.shards.blocked_clients import SPARE_DUE_TIMES
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.in_process_fleet import InProcessFleet
from coordemu.shards.resp_client import RespClient, RespClientError
from coordemu.shards.shard_values import ListValue

__all__ = ["rt", "until"]

harness = harness_fixture()
PATIENCE_MS = 10_000
Words = tuple[Any, ...]


class Hall:
    """One shard, and clients that ask it. Made and closed inside the runtime."""

    def __init__(self, rt: Runtime, faults: FaultPlan | None = None) -> None:
        self.rt = rt
        self.fleet = InProcessFleet(rt, 1, faults or FaultPlan())
        self.clients: list[RespClient] = []

    def __enter__(self) -> Hall:
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self.clients:
            client.close()
        self.fleet.stop()

    @property
    def shard(self) -> Any:
        return self.fleet.shards[0]

    def client(self) -> RespClient:
        made = RespClient(self.rt, self.fleet.addresses[0])
        self.clients.append(made)
        return made

    def ask(self, *words: Any) -> Any:
        """One command over a connection of its own."""
        client = self.client()
        client.begin([words])
        (reply,) = client.finish(PATIENCE_MS)
        client.close()
        return reply

    def waiting(self, *words: Any) -> RespClient:
        """A client that has sent a command and is blocked in it."""
        before = len(self.shard.blocked)
        client = self.client()
        client.begin([words])
        self.turn(client, lambda: len(self.shard.blocked) > before)
        return client

    def turn(self, client: RespClient, done: Callable[[], bool]) -> None:
        deadline_ns = self.rt.now_ns() + PATIENCE_MS * NS_PER_MS
        while not done():
            assert self.rt.now_ns() < deadline_ns, "never happened"
            client.loop.run_once(NS_PER_MS)


def test_the_one_that_waits_longest_is_served_first(rt: Runtime) -> None:
    with Hall(rt) as hall:
        first, second, third = (hall.waiting("BRPOP", "q", 0) for _ in range(3))
        assert len(hall.shard.blocked) == 3
        assert hall.ask("RPUSH", "q", "a", "b") == 2
        assert first.finish(PATIENCE_MS) == [[b"q", b"b"]]
        assert second.finish(PATIENCE_MS) == [[b"q", b"a"]]
        assert hall.fleet.statistics()[0]["blocked"] == 1
        assert not third.done
        assert hall.ask("EXISTS", "q") == 0
        assert hall.ask("LPUSH", "q", "c") == 1
        assert third.finish(PATIENCE_MS) == [[b"q", b"c"]]
        assert repr(hall.shard.blocked) == "<BlockedClients 0 at 0 keys>"


@pytest.mark.parametrize(
    "command", [("BRPOP", "q", "p", "0.05"), ("BLMOVE", "q", "p", "LEFT", "LEFT", "0.05"),
                ("XREAD", "BLOCK", "50", "STREAMS", "q", "$")]
)  # fmt: skip
def test_a_wait_ends_in_time(rt: Runtime, command: Words) -> None:
    with Hall(rt) as hall:
        began_ns = rt.now_ns()
        assert hall.ask(*command) is None
        assert rt.now_ns() - began_ns >= 50 * NS_PER_MS
        assert (len(hall.shard.blocked), hall.shard.blocked._due) == (0, [])
        assert hall.ask("RPUSH", "q", "a") == 1
        assert hall.ask("LRANGE", "q", 0, -1) == [b"a"]


def test_time_outs_come_in_the_order_of_their_times(rt: Runtime) -> None:
    with Hall(rt) as hall:
        late, soon = hall.waiting("BRPOP", "q", "30"), hall.waiting("BRPOP", "q", "0.02")
        for_ever = hall.waiting("BRPOP", "q", 0)
        assert soon.finish(PATIENCE_MS) == [None]
        assert not late.done
        assert hall.ask("RPUSH", "q", "a") == 1
        assert late.finish(PATIENCE_MS) == [[b"q", b"a"]]
        assert len(hall.shard.blocked) == 1
        assert not for_ever.done
        assert not hall.shard.blocked._timer.active


def test_who_ends_while_waiting_gets_nothing_and_takes_nothing(rt: Runtime, until: Any) -> None:
    with Hall(rt) as hall:
        gone, left = hall.waiting("BRPOP", "q", 10), hall.waiting("BRPOP", "q", "other", 0)
        gone.close()
        until(lambda: len(hall.shard.blocked) == 1)
        assert hall.ask("RPUSH", "q", "a") == 1
        assert left.finish(PATIENCE_MS) == [[b"q", b"a"]]
        alone = hall.waiting("BLMOVE", "q", "p", "LEFT", "LEFT", 0)
        alone.close()
        until(lambda: len(hall.shard.blocked) == 0)
        assert hall.ask("RPUSH", "q", "b") == 1
        assert (hall.ask("LLEN", "q"), hall.ask("LLEN", "p")) == (1, 0)
        assert hall.shard.blocked._queues == {}


def test_several_keys_the_first_that_has_something_serves(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.waiting("BLPOP", "a", "b", "b", 0)
        assert hall.ask("RPUSH", "b", "1") == 1
        assert client.finish(PATIENCE_MS) == [[b"b", b"1"]]
        assert hall.shard.blocked._queues == {}
        both = hall.waiting("BLPOP", "a", "b", 0)
        writer = hall.client()
        writer.begin([("MULTI",), ("RPUSH", "b", "2"), ("RPUSH", "a", "1"), ("EXEC",)])
        assert writer.finish(PATIENCE_MS)[-1] == [1, 1]
        assert both.finish(PATIENCE_MS) == [[b"b", b"2"]]
        assert hall.ask("LLEN", "a") == 1


def test_they_are_served_after_the_reply_and_before_the_next_command(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.waiting("BRPOP", "q", 0)
        writer = hall.client()
        writer.begin([("RPUSH", "q", "a"), ("LLEN", "q"), ("RPUSH", "q", "b"), ("LLEN", "q")])
        assert writer.finish(PATIENCE_MS) == [1, 0, 1, 1]
        assert client.finish(PATIENCE_MS) == [[b"q", b"a"]]


def test_a_transaction_is_whole_before_anyone_is_served(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.waiting("BRPOP", "q", 0)
        writer = hall.client()
        writer.begin([("MULTI",), ("RPUSH", "q", "a"), ("LLEN", "q"), ("RPUSH", "q", "b"), ("EXEC",), ("LLEN", "q")])
        assert writer.finish(PATIENCE_MS)[-2:] == [[1, 1, 2], 1]
        assert client.finish(PATIENCE_MS) == [[b"q", b"b"]]
        # what is taken back before the end was never there
        other = hall.waiting("BRPOP", "p", 0)
        writer.begin([("MULTI",), ("RPUSH", "p", "a"), ("DEL", "p"), ("EXEC",)])
        assert writer.finish(PATIENCE_MS)[-1] == [1, 1]
        assert len(hall.shard.blocked) == 1
        other.close()


def test_what_is_moved_serves_those_that_wait_for_it(rt: Runtime) -> None:
    with Hall(rt) as hall:
        last = hall.waiting("BRPOP", "c", 0)
        middle = hall.waiting("BLMOVE", "b", "c", "LEFT", "LEFT", 0)
        first = hall.waiting("BRPOPLPUSH", "a", "b", 0)
        assert hall.ask("RPUSH", "a", "x") == 1
        assert [client.finish(PATIENCE_MS) for client in (first, middle, last)] == [[b"x"], [b"x"], [[b"c", b"x"]]]
        assert hall.ask("DBSIZE") == 0
        # a served client's next command is a command like others
        first.begin([("PING",), ("RPUSH", "a", "y"), ("LPOP", "a")])
        assert first.finish(PATIENCE_MS) == [b"PONG", 1, b"y"]


def test_one_element_goes_round_to_all_that_rotate_it(rt: Runtime) -> None:
    with Hall(rt) as hall:
        clients = [hall.waiting("BLMOVE", "q", "q", "LEFT", "RIGHT", 0) for _ in range(3)]
        assert hall.ask("RPUSH", "q", "x") == 1
        assert [client.finish(PATIENCE_MS) for client in clients] == [[b"x"]] * 3
        assert hall.ask("LRANGE", "q", 0, -1) == [b"x"]


def test_a_target_that_is_no_list_refuses_and_the_element_stays(rt: Runtime) -> None:
    with Hall(rt) as hall:
        refused, served = hall.waiting("BLMOVE", "q", "p", "LEFT", "LEFT", 0), hall.waiting("BRPOP", "q", 0)
        hall.ask("SET", "p", "a string")
        assert hall.ask("RPUSH", "q", "x") == 1
        (error,) = refused.finish(PATIENCE_MS)
        assert isinstance(error, hiredis.ReplyError)
        assert str(error).startswith("WRONGTYPE ")
        assert served.finish(PATIENCE_MS) == [[b"q", b"x"]]


def test_a_key_that_becomes_something_else_is_waited_on(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.waiting("BRPOP", "q", 0)
        assert hall.ask("XADD", "q", "1-1", "a", "b") == b"1-1"
        reader = hall.waiting("XREAD", "BLOCK", 0, "STREAMS", "q", "$")
        assert hall.ask("DEL", "q") == 1
        assert hall.ask("RPUSH", "q", "x", "y") == 2
        assert client.finish(PATIENCE_MS) == [[b"q", b"y"]]
        assert not reader.done
        assert hall.ask("LLEN", "q") == 1


def test_what_is_sent_behind_a_wait_is_done_after_it(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.client()
        client.begin([("PING",), ("BRPOP", "q", 0), ("RPUSH", "p", "1"), ("BRPOP", "p", "q", 0), ("BRPOP", "q", 0)])
        hall.turn(client, lambda: len(hall.shard.blocked) == 1)
        client.begin([("ECHO", "later"), ("QUIT",), ("SET", "never", "1")])
        hall.turn(client, lambda: len(client._replies) == 1)
        assert hall.ask("EXISTS", "p") == 0
        assert hall.ask("RPUSH", "q", "a", "b") == 2
        hall.turn(client, lambda: client.hung_up)
        assert client._replies == [b"PONG", [b"q", b"b"], 1, [b"p", b"1"], [b"q", b"a"], b"later", b"OK"]
        assert hall.ask("EXISTS", "never") == 0


def test_a_shard_that_is_killed_forgets_who_waited(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.waiting("BRPOP", "q", 20)
        listener = hall.client()
        listener.begin([("SUBSCRIBE", "c")])
        listener.finish(PATIENCE_MS)
        timer = hall.shard.blocked._timer
        assert timer.active
        hall.fleet.kill(0)
        assert (hall.shard.blocked._timer, timer.active) == (None, False)
        with pytest.raises(RespClientError):
            client.finish(PATIENCE_MS)
        hall.fleet.restart(0)
        assert len(hall.shard.blocked) == len(hall.shard.subscriptions) == 0
        assert hall.ask("RPUSH", "q", "a") == 1
        assert hall.ask("PUBLISH", "c", "m") == 0
        assert hall.ask("BRPOP", "q", "0.01") == [b"q", b"a"]
        assert hall.ask("BRPOP", "q", "0.01") is None


def test_delay_acts_on_what_comes_late(rt: Runtime) -> None:
    with Hall(rt, FaultPlan(delay_ms=20)) as hall:
        client = hall.waiting("BRPOP", "q", 0)
        began_ns = rt.now_ns()
        assert hall.ask("RPUSH", "q", "a") == 1
        assert client.finish(PATIENCE_MS) == [[b"q", b"a"]]
        assert rt.now_ns() - began_ns >= 20 * NS_PER_MS
        began_ns = rt.now_ns()
        assert hall.ask("BRPOP", "q", "0.03") is None
        assert rt.now_ns() - began_ns >= 50 * NS_PER_MS


def test_silence_keeps_what_was_taken(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.waiting("BRPOP", "q", 0)
        hall.fleet.set_faults(FaultPlan(silence_after_n=0))
        writer = hall.client()
        writer.begin([("RPUSH", "q", "a")])
        hall.turn(writer, lambda: len(hall.shard.blocked) == 0 and hall.fleet.statistics()[0]["waiting"] == 2)
        hall.fleet.set_faults(FaultPlan())
        assert client.finish(PATIENCE_MS) == [[b"q", b"a"]]
        assert writer.finish(PATIENCE_MS) == [1]


def test_a_connection_that_the_plan_closes_waits_no_more(rt: Runtime) -> None:
    with Hall(rt, FaultPlan(close_after_n=1, delay_ms=5)) as hall:
        client = hall.client()
        client.begin([("PING",), ("BRPOP", "q", 0)])
        # The client may see the end before the shard is through with its own side of it.
        hall.turn(client, lambda: client.hung_up and len(hall.shard.blocked) == 0)
        assert client._replies == [b"PONG"]
        assert hall.ask("RPUSH", "q", "a") == 1
        assert hall.ask("LLEN", "q") == 1


def test_one_that_is_closed_drop_by_drop_waits_no_more(rt: Runtime) -> None:
    with Hall(rt, FaultPlan(close_after_n=1, delay_ms=5, slow_bytes=(1, 10))) as hall:
        client = hall.client()
        client.begin([("PING",), ("BRPOP", "q", 0)])
        hall.turn(client, lambda: hall.shard.answered == 1 and len(hall.shard.blocked) == 0)
        hall.turn(client, lambda: client.hung_up)
        assert client._replies == [b"PONG"]


def test_half_open_is_not_read_and_hears_all_the_same(rt: Runtime) -> None:
    with Hall(rt) as hall:
        client = hall.waiting("BRPOP", "q", 0)
        client.begin([("PING",)])
        hall.turn(client, lambda: hall.shard._connections != {})
        hall.fleet.set_faults(FaultPlan(half_open=True))
        hall.fleet._carry_out(lambda: _push(hall.shard))
        hall.turn(client, lambda: len(client._replies) >= 1)
        assert client._replies[0] == [b"q", b"x"]
        hall.fleet.set_faults(FaultPlan())
        assert client.finish(PATIENCE_MS)[-1] == b"PONG"


def _push(shard: Any) -> None:
    shard.keyspace.make(b"q", ListValue).append(b"x")
    assert shard.blocked.signal(b"q")
    assert shard.blocked.ready
    shard.blocked.serve_ready()


# streams


def test_every_reader_sees_what_comes(rt: Runtime) -> None:
    with Hall(rt) as hall:
        hall.ask("XADD", "s", "1-1", "a", "b")
        readers = [hall.waiting("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", "t", "$", "0") for _ in range(2)]
        hall.ask("XADD", "s", "2-1", "c", "d")
        for reader in readers:
            assert reader.finish(PATIENCE_MS) == [[[b"s", [[b"2-1", [b"c", b"d"]]]]]]


def test_one_of_a_group_gets_each_entry(rt: Runtime) -> None:
    with Hall(rt) as hall:
        hall.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        ask = ("XREADGROUP", "GROUP", "g")
        first = hall.waiting(*ask, "one", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", ">")
        second = hall.waiting(*ask, "two", "BLOCK", 0, "NOACK", "STREAMS", "s", ">")
        writer = hall.client()
        writer.begin([("MULTI",), *[("XADD", "s", f"{n}-1", "n", n) for n in (1, 2, 3)], ("EXEC",)])
        writer.finish(PATIENCE_MS)
        assert first.finish(PATIENCE_MS) == [[[b"s", [[b"1-1", [b"n", b"1"]]]]]]
        assert second.finish(PATIENCE_MS) == [[[b"s", [[b"2-1", [b"n", b"2"]], [b"3-1", [b"n", b"3"]]]]]]
        assert hall.ask("XPENDING", "s", "g") == [1, b"1-1", b"1-1", [[b"one", b"1"]]]


def test_a_group_that_is_destroyed_tells_who_waits(rt: Runtime) -> None:
    with Hall(rt) as hall:
        hall.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        client = hall.waiting("XREADGROUP", "GROUP", "g", "one", "BLOCK", 0, "STREAMS", "s", ">")
        assert hall.ask("XGROUP", "DESTROY", "s", "g") == 1
        (error,) = client.finish(PATIENCE_MS)
        assert str(error).startswith("NOGROUP ")


# the book-keeping


def test_waits_that_ended_leave_no_due_times_behind(rt: Runtime) -> None:
    with Hall(rt) as hall:
        kept = hall.waiting("BRPOP", "never", 20)
        client = hall.client()
        for number in range(2 * SPARE_DUE_TIMES):
            client.begin([("BRPOP", "q", 20)])
            hall.turn(client, lambda: len(hall.shard.blocked) == 2)
            hall.ask("RPUSH", "q", number)
            assert client.finish(PATIENCE_MS) == [[b"q", b"%d" % number]]
            assert len(hall.shard.blocked._due) <= SPARE_DUE_TIMES + 4
        kept.close()


# Every order of a few: nothing is lost, nothing comes twice.

ORDERS = 250
# Before, at and after the end of a wait of 50 ms.
PAUSES_NS = (0, 50 * NS_PER_MS - 1, 50 * NS_PER_MS, 50 * NS_PER_MS + 1)


def each_order(program: Callable[[SimRuntime], None]) -> None:
    for seed in range(ORDERS):
        name = ("random", "pct3", "pos")[seed % 3]
        sim = SimRuntime(make_strategy(name, seed), seed=seed)
        sim.run(lambda sim=sim: program(sim), name="main").check()


def test_two_readers_and_a_writer_in_many_orders() -> None:
    sent = [b"%d" % number for number in range(4)]
    ways = set()

    def program(sim: SimRuntime) -> None:
        taken: dict[str, list[bytes]] = {"one": [], "two": []}
        over: list[bool] = []

        def read(name: str) -> None:
            with RespClient(sim, hall.fleet.addresses[0]) as client:
                last = False
                while not last:
                    last = bool(over)
                    reply = client.request("BLPOP", "q", "0.05", timeout_ms=PATIENCE_MS)
                    if reply is not None:
                        taken[name].append(reply[1])

        with Hall(sim) as hall:
            tasks = [sim.spawn(read, name, name=name) for name in taken]
            writer = hall.client()
            for element in sent:
                sim.sleep_ns(sim.random.choice(PAUSES_NS))
                writer.request("RPUSH", "q", element, timeout_ms=PATIENCE_MS)
            over.append(True)
            for task in tasks:
                assert task.join(PATIENCE_MS * NS_PER_MS)
                assert task.error is None, task.error
            left = hall.ask("LRANGE", "q", 0, -1)
        assert sorted([*taken["one"], *taken["two"], *left]) == sent
        assert all(got == sorted(got) for got in taken.values())
        ways.add((tuple(taken["one"]), tuple(taken["two"])))

    each_order(program)
    assert len(ways) > 3


def test_a_reader_that_is_cut_off_in_many_orders() -> None:
    """With BLMOVE to a list of its own, what a reader has taken is in one place or the other at any moment."""
    sent = [b"%d" % number for number in range(3)]
    ends = set()

    def program(sim: SimRuntime) -> None:
        def read(name: str) -> None:
            command = ("BLMOVE", "q", name, "LEFT", "RIGHT", "0.05")
            with RespClient(sim, hall.fleet.addresses[0]) as client:
                if name == "stays":
                    while client.request(*command, timeout_ms=PATIENCE_MS) is not None:
                        pass
                    return
                client.begin([command, command])
                for _ in range(sim.random.randint(1, 4)):
                    client.loop.run_once(NS_PER_MS)

        with Hall(sim) as hall:
            tasks = [sim.spawn(read, name, name=name) for name in ("cut", "stays")]
            writer = hall.client()
            for element in sent:
                writer.request("RPUSH", "q", element, timeout_ms=PATIENCE_MS)
                sim.sleep_ns(sim.random.randint(0, 2) * NS_PER_MS)
            for task in tasks:
                assert task.join(PATIENCE_MS * NS_PER_MS)
                assert task.error is None, task.error
            assert sim.poll_until(lambda: not len(hall.shard.blocked), NS_PER_MS, "waits to end", NS_PER_S)
            places = [hall.ask("LRANGE", key, 0, -1) for key in ("q", "cut", "stays")]
        assert sorted([*places[0], *places[1], *places[2]]) == sent
        ends.add(tuple(map(len, places)))

    each_order(program)
    assert {cut for _, cut, _ in ends} >= {0, 1}, ends


def test_two_consumers_of_a_group_in_many_orders() -> None:
    ways = set()

    def program(sim: SimRuntime) -> None:
        taken: dict[str, list[bytes]] = {"one": [], "two": []}
        over: list[bool] = []

        def read(name: str) -> None:
            ask = ("XREADGROUP", "GROUP", "g", name, "COUNT", 1, "BLOCK", 50, "STREAMS", "s", ">")
            with RespClient(sim, hall.fleet.addresses[0]) as client:
                last = False
                while not last:
                    last = bool(over)
                    reply = client.request(*ask, timeout_ms=PATIENCE_MS)
                    if reply is None:
                        continue
                    ((_, ((ident, fields),)),) = reply
                    taken[name].append(fields[1])
                    assert client.request("XACK", "s", "g", ident, timeout_ms=PATIENCE_MS) == 1

        with Hall(sim) as hall:
            hall.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
            tasks = [sim.spawn(read, name, name=name) for name in taken]
            writer = hall.client()
            for number in range(3):
                sim.sleep_ns(sim.random.choice(PAUSES_NS))
                writer.request("XADD", "s", "*", "n", number, timeout_ms=PATIENCE_MS)
            over.append(True)
            for task in tasks:
                assert task.join(PATIENCE_MS * NS_PER_MS)
                assert task.error is None, task.error
            assert hall.ask("XPENDING", "s", "g")[0] == 0
        assert sorted([*taken["one"], *taken["two"]]) == [b"0", b"1", b"2"]
        ways.add((tuple(taken["one"]), tuple(taken["two"])))

    each_order(program)
    assert len(ways) > 3
