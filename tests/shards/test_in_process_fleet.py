"""InProcessFleet: shards on a loop of the same runtime, killed and restarted by index, on both runtimes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.runtime.base import NS_PER_S, Address, Runtime, Transport
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.in_process_fleet import InProcessFleet
from coordemu.shards.shard_errors import ShardError


class Asker:
    """Sends PING once connected, and keeps what comes."""

    def __init__(self, rt: Runtime, address: Address) -> None:
        self.loop = rt.loop("asker")
        self.got = b""
        self.ended = ""
        self.transport: Transport = self.loop.connect(address, self)

    def on_connect(self) -> None:
        self.transport.write(pack_command("PING"))

    def on_data(self, data: bytes) -> None:
        self.got += data

    def on_close(self, reason: str | None) -> None:
        self.ended = reason or "closed"

    def answer(self) -> bytes:
        while not (self.got or self.ended):
            self.loop.run_once(NS_PER_S)
        self.loop.close()
        return self.got


def ask(rt: Runtime, fleet: InProcessFleet, index: int) -> bytes:
    return Asker(rt, fleet.addresses[index]).answer()


def on_threads(body: Callable[[Runtime], None]) -> None:
    rt = ThreadsRuntime(seed=1)
    body(rt)
    assert [task.name for task in rt.tasks() if task.name == "shards"] == []


def in_the_simulator(body: Callable[[Runtime], None]) -> None:
    sim = SimRuntime()
    sim.run(lambda: body(sim), name="lab").check()


Runner = Callable[[Callable[[Runtime], None]], None]
both = pytest.mark.parametrize("runner", [on_threads, in_the_simulator])


@both
def test_a_killed_shard_comes_back_at_its_address(runner: Runner) -> None:
    def body(rt: Runtime) -> None:
        fleet = InProcessFleet(rt, 2)
        assert len(fleet) == len(set(map(str, fleet.addresses))) == 2
        assert ask(rt, fleet, 0) == ask(rt, fleet, 1) == b"+PONG\r\n"
        fleet.kill(1)
        assert ask(rt, fleet, 1) == b""
        assert ask(rt, fleet, 0) == b"+PONG\r\n"
        fleet.restart(1)
        assert ask(rt, fleet, 1) == b"+PONG\r\n"
        assert [sums["answered"] for sums in fleet.statistics()] == [2, 2]
        fleet.stop()
        fleet.stop()
        assert "stopped" in repr(fleet)

    runner(body)


@both
def test_what_is_posted_is_carried_out_without_being_waited_for(runner: Runner) -> None:
    def body(rt: Runtime) -> None:
        fleet = InProcessFleet(rt, 1)
        fleet.post_kill(0)
        fleet.post_restart(0)
        fleet.set_faults(FaultPlan())  # waited for, and so the two before it are over
        assert ask(rt, fleet, 0) == b"+PONG\r\n"
        fleet.post_kill(0)
        fleet.set_faults(FaultPlan(), 0)
        assert ask(rt, fleet, 0) == b""
        fleet.stop()

    runner(body)


@both
def test_a_password_and_faults_hold_from_the_start(runner: Runner) -> None:
    def body(rt: Runtime) -> None:
        fleet = InProcessFleet(rt, 1, FaultPlan.parse("close=after:0"), "secret")
        assert (fleet.password, fleet.endpoints[0].password, fleet.kind) == ("secret", "secret", "embedded")
        assert ask(rt, fleet, 0) == b""
        fleet.set_faults(FaultPlan())
        assert ask(rt, fleet, 0).startswith(b"-NOAUTH")
        fleet.stop()

    runner(body)


def test_what_does_not_exist_is_refused() -> None:
    sim = SimRuntime()
    with pytest.raises(ShardError, match="a fleet of 0 shards"):
        InProcessFleet(sim, 0)
    fleet = InProcessFleet(sim, 2)
    for refused in (fleet.kill, fleet.restart, fleet.post_kill, fleet.post_restart):
        with pytest.raises(ShardError, match="no shard 2: there are 0 to 1"):
            refused(2)
    with pytest.raises(ShardError, match="no shard -1"):
        fleet.set_faults(FaultPlan(), -1)
    assert fleet.query_command("q", 2000) == (b"_FT.SEARCH", b"idx", b"q", b"SERVICE", b"2")
