"""Prints what simulated coordinator runs did, as digests: the same for every process, hash seed and Python.

Run by test_determinism with this very Python, and by hand with others: `PYTHONPATH=src python3.13
tests/determinism_digest.py`. Needs no pytest. Prints one JSON object: case -> [kind of end, steps, digest of the
steps, trace, wait-for graph and sums].
"""

from __future__ import annotations

import hashlib
import json
import sys

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import get_policy
from coordemu.lab.load import QueryLoad
from coordemu.lab.operator import Operator
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import make_strategy
from coordemu.shards.embedded_shard import EmbeddedShard
from coordemu.shards.shard_command import query_command

WORKERS, SHARDS = 3, 2
# (policy, strategy, clock, chances, seed)
CASES = [
    (policy, strategy, clock, chances, seed)
    for policy in ("upstream-7410", "writeup-fix", "upstream-before")
    for strategy in ("random", "pct3")
    for clock in ("idle", "explored")
    for chances, seed in ((0.0, 7), (0.2, 8))
]


def lab(rt: SimRuntime, policy: str) -> str:
    """Clients load a coordinator, the operator takes its workers away and gives some back, a shard dies and comes
    again in between; the sums."""
    plan = Scenario(workers=(WORKERS, 0), clients=WORKERS, latency="1ms", load_ms=0.1, lock_share=0.5)
    loop = rt.loop("shards")
    servers = [EmbeddedShard(rt, loop) for _ in range(SHARDS)]
    endpoints = [MREndpoint(server.start()) for server in servers]
    shard_task = rt.spawn(loop.run, name="shards")
    restart = loop.async_handle(lambda: void(servers[-1].stop(), servers[-1].start()), "restart a shard")
    coordinator = Coordinator(
        rt,
        CoordinatorOptions(workers=WORKERS),
        endpoints,
        get_policy(policy),
        lambda ident, service_ns: pack_command(*query_command("embedded", ident, service_ns)),
    )
    assert coordinator.start()
    load = QueryLoad(rt, coordinator.host.address, plan, rt.random)
    operator = Operator(rt, coordinator.host.address)
    operator.wait(lambda: load.replied >= WORKERS, lambda: False)
    for workers in ("0", "2"):
        assert operator.call("CONFIG", "SET", "WORKERS", workers, give_up=lambda: False) == b"OK"
        operator.wait(lambda: False, lambda: False, 3 * NS_PER_MS)
        restart.send()
    load.end()
    assert operator.wait(lambda: load.ended, lambda: False, 5 * NS_PER_S)
    sums = repr(load.sums())
    load.stop()
    operator.close()
    coordinator.stop()
    loop.stop()
    shard_task.join()
    for server in servers:
        server.stop()
    loop.close()
    return sums


def void(*_: object) -> None:
    """Drop what calls returned."""


def planted(rt: SimRuntime) -> str:
    """A layer as it must not be: it walks a set of words."""
    names = {f"task {number}" for number in range(20)}
    for task in [rt.spawn(rt.sleep_ns, 1, name=name) for name in names]:
        task.join()
    return ""


def digest(policy: str, strategy: str, clock: str, chances: float, seed: int) -> tuple[str, int, str]:
    """One run: kind of its end, steps, digest of all that it did."""
    rt = SimRuntime(make_strategy(strategy, seed), seed=seed, clock=clock, chances=chances)
    sums: list[str] = []
    outcome = rt.run(lambda: sums.append(planted(rt) if policy == "planted" else lab(rt, policy)), name="lab")
    if outcome.kind not in ("done", "deadlock"):
        raise outcome.error or AssertionError(outcome.kind)
    trace = [(event.at_ns, event.task, event.upstream, event.ours, event.detail) for event in rt.trace_events()]
    stacks = {task: len(stack) for task, stack in outcome.stacks.items()}
    told = [outcome.schedule.steps, trace, outcome.now_ns, outcome.wait_for, stacks, sums]
    return outcome.kind, outcome.steps, hashlib.sha256(json.dumps(told).encode()).hexdigest()


def scatter(number: int) -> list[object]:
    """Objects with holes between them, so that what is made later lies elsewhere."""
    kept: list[object] = [bytearray(1 + index * number % 500) for index in range(1000 * number)]
    return kept[:: number + 1]


def main() -> None:
    """Arguments: a number (0) to scatter memory by, and "planted" for the run that must differ."""
    kept = scatter(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    cases = [("planted", "random", "idle", 0.0, 1)] if "planted" in sys.argv else CASES
    print(json.dumps({" ".join(map(str, case)): digest(*case) for case in cases}, indent=1))
    del kept


if __name__ == "__main__":
    main()
