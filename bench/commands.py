"""Commands per second over real sockets: through coordemu's I/O thread, through redis-py, by hand, and from C.

Role: one server, a real Redis if a binary is found (else an embedded shard, and the tables say so), GET of 3 bytes.
Two shapes: 12 workers that wait for each reply; 13 connections x 16 or x 64 commands in flight with a callback each;
also beside a thread that computes, which is what users feel. A third, the fan-out, is `bench.fanout`. With
``--shards``, the server is the first of those. The rows from C and those of valkey-glide are there where they can be
had; the facts below the tables say so, or why not.

Thread: the clients make their own. Upstream: the load of the coordinator's I/O thread. Left out: unix sockets, large
replies.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import hiredis

from bench.async_clients import RedisAsyncio, ValkeyGlide
from bench.clients import CONNS, IN_FLIGHT, KEY, VALUE, WORKERS, ByHand, NotHere, OurClient, RedisPy
from bench.hiredis_driver import HiredisDriver
from bench.load_threads import BusyThreads
from bench.measure import PER_S, Case, CaseResult, Contender, Effort, Progress, Report, run_case, silent
from coordemu.runtime.base import NS_PER_S, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import find_redis_server
from coordemu.shards.resp_client import ask
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_fleet import ShardFleet

GLIDE = "valkey-glide"
PY_BLOCKING = f"redis-py, {WORKERS} threads"
PY_PIPELINE = "redis-py pipelines, 1 thread"
AIO_BLOCKING = f"redis-py asyncio, {WORKERS} tasks"
GLIDE_BLOCKING = f"glide, {WORKERS} tasks, 1 client"
OUR_BLOCKING = f"{WORKERS} workers, I/O thread"
OUR_STREAM = "MRConn, packed once"
OUR_DEADLINES = "MRConn, packed once, deadlines"
OUR_PACKING = "MRConn, each command packed"
HAND_BLOCKING = f"by hand: {WORKERS} threads, a socket each"
HAND_STREAM = "by hand: epoll loop, packed once"
C_CLIENT = "C hiredis + libuv"
C_STREAM = "C hiredis, packed once"
C_PACKING = "C hiredis, each command packed"
DEEP = 64
DEADLINE_NS = 10 * NS_PER_S  # none is to be missed


def start_server(rt: ThreadsRuntime, stack: ExitStack, shards: str | None = None) -> tuple[Address, str]:
    """A server with the key set, until the stack is closed. Returns its address and what it is.

    shards: which, as ``--shards`` says it; None: a Redis of our own, or an embedded shard where there is none to be
    found. Raises ShardError.
    """
    spec = shards or ("redis:1" if find_redis_server() is not None else "embedded:1")
    fleet = stack.enter_context(ShardFleet.start(rt, spec))
    if fleet.password is not None:
        raise ShardError(f"shards: {fleet.spec}: this benchmark's clients know no password")
    address, what = fleet.addresses[0], "an embedded shard"
    if fleet.kind != "embedded":
        info = ask(rt, address, "INFO", "server", timeout_ms=1000)
        version = next(line for line in info.decode().splitlines() if line.startswith("redis_version:"))
        what = f"Redis {version.partition(':')[2]}"
    if isinstance(reply := ask(rt, address, "SET", KEY, VALUE, timeout_ms=1000), hiredis.ReplyError):
        raise ShardError(f"shards: {address}: {reply}")
    return address, f"{what}{' (no redis-server was found)' if spec == 'embedded:1' and not shards else ''}, TCP"


def start_glide(address: Address, clients: int, stack: ExitStack, facts: dict[str, Any]) -> ValkeyGlide | None:
    """valkey-glide until the stack is closed; None where it can't be had. The facts get its version, or the reason."""
    try:
        client = ValkeyGlide(address, clients)
    except NotHere as err:
        facts[GLIDE] = f"not here: {err}"
        return None
    stack.callback(client.close)
    facts[GLIDE] = client.version
    return client


def start_driver(address: Address, stack: ExitStack, facts: dict[str, Any]) -> HiredisDriver | None:
    """The driver in C, in the same way."""
    try:
        driver = stack.enter_context(HiredisDriver(address))
    except NotHere as err:
        facts[C_CLIENT] = f"not here: {err}"
        return None
    facts[C_CLIENT] = driver.versions
    return driver


class Bench:
    """The clients, connected, and the cases made of them. facts: which of the optional ones are there."""

    def __init__(self, address: Address, stack: ExitStack, effort: Effort) -> None:
        self._seconds = effort.pick(400, 300, 60) / 1e3
        self._rounds = effort.pick(7, 3, 1)
        self._conn = OurClient(address, 1, CONNS)
        stack.callback(self._conn.close)
        self._py, self._hand = RedisPy(address), ByHand(address)
        stack.callback(self._py.close)
        self._asyncio = RedisAsyncio(address)
        stack.callback(self._asyncio.close)
        self.facts: dict[str, Any] = {}
        self._glide = start_glide(address, 1, stack, self.facts)
        self._c = start_driver(address, stack, self.facts)

    def blocking(self, suffix: str = "") -> Case:
        """12 workers that wait for each reply."""
        seconds = self._seconds
        contenders = [
            Contender(PY_BLOCKING, lambda: self._py.blocking(seconds)),
            Contender(AIO_BLOCKING, lambda: self._asyncio.blocking(seconds)),
            Contender(HAND_BLOCKING, lambda: self._hand.blocking(seconds)),
            Contender(OUR_BLOCKING, lambda: self._conn.blocking(seconds), ours=True),
        ]
        baselines = [PY_BLOCKING, AIO_BLOCKING]
        if (glide := self._glide) is not None:
            contenders.insert(2, Contender(GLIDE_BLOCKING, lambda: glide.blocking(seconds)))
            baselines.append(GLIDE_BLOCKING)
        title = f"{WORKERS} blocking workers{suffix}, commands/s"
        return Case(title, PER_S, contenders, baselines, self._rounds, limits=[HAND_BLOCKING])

    def streaming(self, suffix: str = "") -> Case:
        """13 connections x 16 in flight."""
        seconds = self._seconds
        pipelines = [
            Contender(PY_PIPELINE, lambda: self._py.pipelines(seconds, 1)),
            Contender(f"redis-py pipelines, {WORKERS} threads", lambda: self._py.pipelines(seconds, WORKERS)),
        ]
        note = f"Pipelines of {IN_FLIGHT} on one connection per thread. By hand: no states, counts or ways to fail."
        return self._streams(IN_FLIGHT, pipelines, [PY_PIPELINE], suffix, note)

    def deep_streaming(self) -> Case:
        """13 connections x 64 in flight, where the cost of a turn of the loop is shared by more replies."""
        return self._streams(DEEP, [], [], "", "")

    def _streams(self, depth: int, others: list[Contender], baselines: list[str], suffix: str, note: str) -> Case:
        seconds, ours = self._seconds, self._conn.streaming
        contenders = [*others, Contender(HAND_STREAM, lambda: self._hand.streaming(seconds, CONNS, depth))]
        baselines = [*baselines, HAND_STREAM]
        if (driver := self._c) is not None:
            contenders += [
                Contender(C_STREAM, lambda: driver.streaming(seconds, depth)),
                Contender(C_PACKING, lambda: driver.streaming(seconds, depth, pack_each=True)),
            ]
            baselines += [C_STREAM, C_PACKING]
        contenders += [
            Contender(OUR_STREAM, lambda: ours(seconds, in_flight=depth), ours=True),
            Contender(OUR_DEADLINES, lambda: ours(seconds, in_flight=depth, timeout_ns=DEADLINE_NS), ours=True),
            Contender(OUR_PACKING, lambda: ours(seconds, in_flight=depth, pack_each=True), ours=True),
        ]
        title = f"{CONNS} connections x {depth} in flight{suffix}, commands/s"
        return Case(title, PER_S, contenders, baselines, self._rounds, note)


def run(effort: Effort, progress: Progress = silent, shards: str | None = None) -> Report:
    """Measure. shards: see `start_server`. Blocks for some minutes. Raises ShardError when there is no server."""
    report = Report("commands")
    with ExitStack() as stack:
        address, what = start_server(ThreadsRuntime(seed=1), stack, shards)
        bench = Bench(address, stack, effort)
        report.facts = {"server": what, **bench.facts}
        report.cases += [run_case(case, progress) for case in (bench.blocking(), bench.streaming())]
        with BusyThreads(1):
            suffix = ", beside a busy thread"
            report.cases += [run_case(bench.blocking(suffix), progress), run_case(bench.streaming(suffix), progress)]
        report.cases.append(run_case(bench.deep_streaming(), progress))
    report.conclusion = _conclusion(*report.cases)
    return report


def _conclusion(
    blocking: CaseResult, streaming: CaseResult, busy: CaseResult, busy_streaming: CaseResult, deep: CaseResult
) -> str:
    waits = blocking.row(OUR_BLOCKING).times_better[PY_BLOCKING]
    pipelines, hand = (streaming.row(OUR_STREAM).times_better[name] for name in (PY_PIPELINE, HAND_STREAM))
    busy_waits = busy.row(OUR_BLOCKING).times_better[PY_BLOCKING]
    busy_hand = busy_streaming.row(OUR_STREAM).times_better[HAND_STREAM]
    said = (
        f"{WORKERS} waiting workers {waits:.2f} times redis-py's commands/s; "
        f"{IN_FLIGHT} in flight {pipelines:.1f} times its pipelines and {hand:.2f} of a bare loop; beside a busy "
        f"thread {busy_waits:.2f} times and {busy_hand:.2f} of the bare loop"
    )
    if C_STREAM not in streaming.baselines:
        return said
    once, each, deep_once, deep_each = (
        case.row(name).times_better[C_STREAM] for case in (streaming, deep) for name in (OUR_STREAM, OUR_PACKING)
    )
    return (
        f"{said}; of {C_CLIENT}, packed once: {once:.2f}, packing each command {each:.2f}, and with {DEEP} in flight "
        f"{deep_once:.2f} and {deep_each:.2f}"
    )
