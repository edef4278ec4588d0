"""Fan-out: a query that goes to 13 connections and waits for all 13 replies, as the coordinator's queries do.

Role: the shape that the coordinator is made for. 12 workers, one query at a time each, GET of 3 bytes to 13 nodes,
which are all the same server (see `bench.commands`), or with ``--shards`` the first of those. The command is packed
once per query. Counted in commands, 13 to a query, so that the others, who have no fan-out, can be compared: redis-py
sends one command at a time from each of 12 threads, or 13 in one pipeline; redis.asyncio and valkey-glide, where it is
installed, gather 13 from each of 12 tasks, over 13 connections too. Also beside a thread that computes.

Thread: the clients make their own. Upstream: MR_Fanout, src/coord/rmr. Left out: different servers, merging replies.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.async_clients import RedisAsyncio
from bench.clients import CONNS, WORKERS, OurClient, RedisPy
from bench.commands import start_glide, start_server
from bench.load_threads import BusyThreads
from bench.measure import PER_S, Case, Contender, Effort, Progress, Report, run_case, silent
from coordemu.runtime.threads import ThreadsRuntime

SINGLE = f"redis-py, {WORKERS} threads"
PIPELINE = f"redis-py pipelines of {CONNS}, {WORKERS} threads"
AIO = f"redis-py asyncio, {WORKERS} tasks, gather {CONNS}"
GLIDE_TASKS = f"glide, {WORKERS} tasks, gather {CONNS}"
OURS = f"{WORKERS} workers, fan-out to {CONNS}"


def run(effort: Effort, progress: Progress = silent, shards: str | None = None) -> Report:
    """Measure. shards: as `coordemu.shards.shard_url` reads it. Blocks for some seconds. Raises ShardError."""
    report = Report("fanout")
    seconds, rounds = effort.pick(400, 300, 60) / 1e3, effort.pick(7, 3, 1)
    with ExitStack() as stack:
        address, what = start_server(ThreadsRuntime(seed=1), stack, shards)
        report.facts = {"server": what}
        ours, theirs, tasks = OurClient(address, CONNS, 1), RedisPy(address), RedisAsyncio(address)
        for client in (ours, theirs, tasks):
            stack.callback(client.close)
        contenders = [
            Contender(SINGLE, lambda: theirs.blocking(seconds)),
            Contender(PIPELINE, lambda: theirs.pipelines(seconds, WORKERS, CONNS)),
            Contender(AIO, lambda: tasks.gathering(seconds)),
            Contender(OURS, lambda: ours.blocking(seconds), ours=True),
        ]
        baselines = [SINGLE, PIPELINE, AIO]
        glide = start_glide(address, CONNS, stack, report.facts)
        if glide is not None:
            contenders.insert(3, Contender(GLIDE_TASKS, lambda: glide.gathering(seconds)))
            baselines.append(GLIDE_TASKS)

        def case(suffix: str) -> Case:
            title = f"queries to {CONNS} connections each{suffix}, commands/s"
            return Case(title, PER_S, contenders, baselines, rounds)

        report.cases.append(run_case(case(""), progress))
        with BusyThreads(1):
            report.cases.append(run_case(case(", beside a busy thread"), progress))
    idle, busy = (case.row(OURS) for case in report.cases)
    report.conclusion = (
        f"{OURS}: {idle.times_better[SINGLE]:.1f} times the commands/s of redis-py's {WORKERS} threads, "
        f"{idle.times_better[PIPELINE]:.1f} times its pipelines; beside a busy thread {busy.times_better[SINGLE]:.1f} "
        f"and {busy.times_better[PIPELINE]:.1f} times; {idle.times_better[AIO]:.1f} times redis-py's asyncio"
    )
    return report
