"""Commands per second over real sockets: through coordemu's I/O thread, through redis-py, and by hand.

Role: one server, a real Redis if a binary is found (else an embedded shard, and the tables say so), GET of 3 bytes.
Two shapes: 12 workers that wait for each reply; 13 connections x 16 commands in flight with a callback each; also
beside a thread that computes, which is what users feel. A third, the fan-out, is `bench.fanout`. With ``--shards``, the
server is the first of those.

Thread: the clients make their own. Upstream: the load of the coordinator's I/O thread. Left out: C clients, asyncio,
unix sockets, large replies.
"""

from __future__ import annotations

from contextlib import ExitStack

import hiredis

from bench.clients import CONNS, IN_FLIGHT, KEY, VALUE, WORKERS, ByHand, OurClient, RedisPy
from bench.load_threads import BusyThreads
from bench.measure import PER_S, Case, CaseResult, Contender, Effort, Progress, Report, run_case, silent
from coordemu.runtime.base import Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import find_redis_server
from coordemu.shards.resp_client import ask
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_fleet import ShardFleet

PY_BLOCKING = f"redis-py, {WORKERS} threads"
PY_PIPELINE = "redis-py pipelines, 1 thread"
OUR_BLOCKING = f"{WORKERS} workers, I/O thread"
OUR_STREAM = "MRConn, packed once"
HAND_BLOCKING = f"by hand: {WORKERS} threads, a socket each"
HAND_STREAM = "by hand: epoll loop, packed once"


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


class Bench:
    """The clients, connected, and the cases made of them."""

    def __init__(self, address: Address, stack: ExitStack, effort: Effort) -> None:
        self._seconds = effort.pick(600, 300, 60) / 1e3
        self._rounds = effort.pick(7, 3, 1)
        self._conn = OurClient(address, 1, CONNS)
        stack.callback(self._conn.close)
        self._py, self._hand = RedisPy(address), ByHand(address)
        stack.callback(self._py.close)

    def blocking(self, suffix: str = "") -> Case:
        """12 workers that wait for each reply."""
        seconds = self._seconds
        contenders = [
            Contender(PY_BLOCKING, lambda: self._py.blocking(seconds)),
            Contender(HAND_BLOCKING, lambda: self._hand.blocking(seconds)),
            Contender(OUR_BLOCKING, lambda: self._conn.blocking(seconds), ours=True),
        ]
        title = f"{WORKERS} blocking workers{suffix}, commands/s"
        return Case(title, PER_S, contenders, [PY_BLOCKING], self._rounds, limits=[HAND_BLOCKING])

    def streaming(self, suffix: str = "") -> Case:
        """13 connections x 16 in flight."""
        seconds = self._seconds
        contenders = [
            Contender(PY_PIPELINE, lambda: self._py.pipelines(seconds, 1)),
            Contender(f"redis-py pipelines, {WORKERS} threads", lambda: self._py.pipelines(seconds, WORKERS)),
            Contender(HAND_STREAM, lambda: self._hand.streaming(seconds)),
            Contender(OUR_STREAM, lambda: self._conn.streaming(seconds), ours=True),
            Contender("MRConn, each command packed", lambda: self._conn.streaming(seconds, pack_each=True), ours=True),
        ]
        title = f"{CONNS} connections x {IN_FLIGHT} in flight{suffix}, commands/s"
        note = f"Pipelines of {IN_FLIGHT} on one connection per thread. By hand: no states, counts or ways to fail."
        return Case(title, PER_S, contenders, [PY_PIPELINE, HAND_STREAM], self._rounds, note)


def run(effort: Effort, progress: Progress = silent, shards: str | None = None) -> Report:
    """Measure. shards: see `start_server`. Blocks for about a minute. Raises ShardError when there is no server."""
    report = Report("commands")
    with ExitStack() as stack:
        address, what = start_server(ThreadsRuntime(seed=1), stack, shards)
        report.facts["server"] = what
        bench = Bench(address, stack, effort)
        report.cases += [run_case(bench.blocking(), progress), run_case(bench.streaming(), progress)]
        with BusyThreads(1):
            suffix = ", beside a busy thread"
            report.cases += [run_case(bench.blocking(suffix), progress), run_case(bench.streaming(suffix), progress)]
    report.conclusion = _conclusion(*report.cases)
    return report


def _conclusion(blocking: CaseResult, streaming: CaseResult, busy: CaseResult, busy_streaming: CaseResult) -> str:
    waits = blocking.row(OUR_BLOCKING).times_better[PY_BLOCKING]
    pipelines, hand = (streaming.row(OUR_STREAM).times_better[name] for name in (PY_PIPELINE, HAND_STREAM))
    busy_waits = busy.row(OUR_BLOCKING).times_better[PY_BLOCKING]
    busy_hand = busy_streaming.row(OUR_STREAM).times_better[HAND_STREAM]
    return (
        f"{WORKERS} waiting workers {waits:.2f} times redis-py's commands/s; "
        f"{IN_FLIGHT} in flight {pipelines:.1f} times its pipelines and {hand:.2f} of a bare loop; beside a busy "
        f"thread {busy_waits:.2f} times and {busy_hand:.2f} of the bare loop"
    )
