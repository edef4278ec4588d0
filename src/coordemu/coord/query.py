"""Queries: FT.SEARCH from the moment that main reads it until its one outcome.

Role: the load that a resize meets. A query does what upstream's do, in the same places: take the module lock
briefly to open the index, fan out to every shard through the I/O thread, wait for the replies, work, now and then
take the module lock *late* to load documents (the place where the real incident hangs), and have main write the reply.
Where it runs depends on WORKERS and on the policy:

* WORKERS > 0: a job of the worker pool. Its client is blocked.
* WORKERS = 0, ``main_mode="block"``: on main, which waits for the replies with the module lock held (the write-ups'
  drawing).
* WORKERS = 0, ``main_mode="async"``: main only starts the fan-out; the last reply posts the rest back to main
  (upstream's way).
* handed off (``reduce="handoff"``): begun by a worker, which was told to leave; main goes on with it as if it had
  begun there.

Every query has exactly one outcome: replied, or failed with a reason. One that never gets there is lost, which only
the end of a run can say. `statistics` counts all three, and the sums must add up.

Thread: `Queries.submit`, `release_held` on main; the body on a worker or on main; `_replies_complete` on the I/O
thread. Upstream: RSExecDistAggregate and its jobs (src/coord/dist_aggregate.c), the document loader
(src/result_processor.c). Left out: parsing, planning, scoring: their time is one number, WORK.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordemu import resp_encode
from coordemu.coord.admission import AdmissionGate
from coordemu.coord.cluster import MRCluster
from coordemu.coord.config import Config
from coordemu.coord.host import BLOCKED, Host, HostClient, Reply
from coordemu.coord.rmr import MRCtx, fanout
from coordemu.coord.workers import WorkersThreadPool
from coordemu.runtime.base import NS_PER_US, Event, Runtime

ShardCommand = Callable[[str, int], bytes]
REJECTED = "rejected: a resize is under way"


@dataclass(frozen=True, slots=True)
class QueryArgs:
    """What FT.SEARCH was asked for. The load chooses these numbers, so that chance has one place.

    id: any word, given back in the reply.
    service_ns: how long each shard takes.
    work_ns: how long the query works after the replies, without the module lock.
    load_ns: how long it then holds the module lock to load documents; 0: it does not take it.
    open_ns: how long it holds the module lock at its start.
    """

    id: str
    service_ns: int = 0
    work_ns: int = 0
    load_ns: int = 0
    open_ns: int = 0

    @classmethod
    def parse(cls, args: Sequence[bytes]) -> QueryArgs:
        """From ``<index> <id> [SERVICE us] [WORK us] [LOAD us] [OPEN us]``. Raises ValueError with one line."""
        if len(args) < 2 or len(args) % 2:
            raise ValueError("ERR wrong number of arguments for 'ft.search' command")
        fields = {b"SERVICE": 0, b"WORK": 0, b"LOAD": 0, b"OPEN": 0}
        for key, value in zip(args[2::2], args[3::2], strict=True):
            word = key.upper()
            if word not in fields:
                raise ValueError(f"ERR unknown argument '{key.decode(errors='replace')}'")
            if not value.isdigit() or len(value) > 10 or int(value) > 3_600_000_000:
                raise ValueError(f"ERR {word.decode()} takes microseconds, 0 to one hour")
            fields[word] = int(value) * NS_PER_US
        return cls(
            args[1].decode(errors="replace"), fields[b"SERVICE"], fields[b"WORK"], fields[b"LOAD"], fields[b"OPEN"]
        )

    def words(self) -> list[str]:
        """The command that `parse` reads back."""
        times = {"SERVICE": self.service_ns, "WORK": self.work_ns, "LOAD": self.load_ns, "OPEN": self.open_ns}
        return ["FT.SEARCH", "idx", self.id] + [
            word for name, ns in times.items() for word in (name, str(ns // NS_PER_US))
        ]


class Query:
    """One query under way."""

    __slots__ = ("args", "client", "complete", "ctx", "handed_off", "signal", "where")

    def __init__(self, args: QueryArgs, client: HostClient) -> None:
        """Made by `Queries.submit`. Thread: main."""
        self.args = args
        self.client = client
        self.ctx: MRCtx | None = None
        self.complete = False
        self.handed_off = False
        self.where = "main"
        self.signal: Event | None = None

    def __repr__(self) -> str:
        return f"<Query {self.args.id} on {self.where}{' handed off' if self.handed_off else ''}>"


class Queries:
    """All queries of one coordinator: admission, where each runs, and the sums."""

    def __init__(
        self,
        rt: Runtime,
        host: Host,
        config: Config,
        workers: WorkersThreadPool,
        cluster: MRCluster,
        shard_command: ShardCommand,
    ) -> None:
        """shard_command: makes the packed command that goes to every shard, from a query's id and service time in
        ns."""
        self._rt = rt
        self._host = host
        self._config = config
        self._workers = workers
        self._cluster = cluster
        self._shard_command = shard_command
        self.gate: AdmissionGate[Query] = AdmissionGate()
        self.main_mode = "async"
        self._lock = rt.lock("queries")
        # Queries on workers that a handoff may take over, oldest first. Bound: one per worker thread and queued job.
        self._on_workers: dict[Query, None] = {}
        # Let out of the gate, not begun; bounded as the gate is.
        self._released: deque[Query] = deque()
        self._in_flight: dict[Query, None] = {}
        self._submitted = 0
        self._replied = 0
        self._failed = 0
        self._taken_over = 0
        self._by_reason: dict[str, int] = {}

    # ---- main

    def command(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        """FT.SEARCH. Thread: main, module lock held. Blocks only in main_mode "block" without workers."""
        try:
            query = Query(QueryArgs.parse(args), client)
        except ValueError as err:
            return resp_encode.error(str(err))
        # One critical section from the count to the place where the query is counted, so that the sums always add up.
        with self._lock:
            self._submitted += 1
            decision = self.gate.offer(query)
            if decision == "rejected":
                self._count_failure_locked(REJECTED)
            elif decision == "admitted":
                self._begin_locked(query)
        if decision == "rejected":
            return resp_encode.error(f"ERR query failed: {REJECTED}")
        if decision == "admitted":
            self._run(query)
        return BLOCKED

    def release_held(self) -> int:
        """Open the gate and have main run what it held. Returns how many. Thread: main. Never blocks.

        One query per turn of main's loop: with main_mode "block" each takes as long as its replies, and PING must
        come between.
        """
        with self._lock:
            held = self.gate.open()
            self._released.extend(held)
        if held:
            self._host.post(self._run_released)
        return len(held)

    def _run_released(self) -> None:
        query = None
        with self._lock:
            if self._released:
                query = self._released.popleft()
                self._begin_locked(query)
        if query is not None:
            self._run(query)
        if self._released:
            self._host.post(self._run_released)

    def _begin_locked(self, query: Query) -> None:
        self._in_flight[query] = None
        if self._config.workers > 0:
            query.where = "worker"
            self._on_workers[query] = None

    def _run(self, query: Query) -> None:
        if query.where == "worker":
            self._workers.add_work(self._on_worker, query)
            return
        self._hold(query.args.open_ns)
        if self.main_mode == "block":
            self._fan_out(query, wait=True)
            self._wait_on_main(query)
        else:
            self._fan_out(query, wait=False)

    def hand_off(self, count: int | None) -> int:
        """Take over queries from workers: those that wait for replies leave at once, the others at their next step.

        count: how many, oldest first; None: all, those included that no thread has begun. Returns how many were told.
        Thread: main.
        """
        with self._lock:
            chosen = list(self._on_workers)[:count]
            for query in chosen:
                query.handed_off = True
                del self._on_workers[query]
            signals = [query.signal for query in chosen if query.signal is not None]
        for signal in signals:
            signal.set()
        return len(chosen)

    def _go_on_on_main(self, query: Query) -> None:
        """The continuation of a handed-off query. Thread: main, module lock held."""
        query.where = "main"
        self._taken_over += 1
        if query.ctx is None:
            self._fan_out(query, wait=self.main_mode == "block")
        if self.main_mode == "block":
            self._wait_on_main(query)
        elif query.signal is not None:
            self._finish_when_complete(query)

    def _wait_on_main(self, query: Query) -> None:
        signal = query.signal
        assert signal is not None
        # A handoff has set the signal before the replies did. Clear, then look: the I/O thread marks first, sets after.
        signal.clear()
        if not query.complete:
            signal.wait()
        self._finish(query)

    def _finish_when_complete(self, query: Query) -> None:
        # The worker's fan-out reports to the signal; from here on it reports to main. Either it has done so already
        # or it will find no signal: never both, since both sides decide under the lock.
        with self._lock:
            query.signal = None
            done = query.complete
        if done:
            self._finish(query)

    # ---- worker

    def _on_worker(self, query: Query) -> None:
        if not query.handed_off:
            with self._host.module_lock:
                self._hold(query.args.open_ns)
        if not query.handed_off:
            self._fan_out(query, wait=True)
            assert query.signal is not None
            query.signal.wait()
        with self._lock:
            handed_off = query.handed_off and not query.complete
            self._on_workers.pop(query, None)
        if handed_off:
            self._host.post(lambda: self._go_on_on_main(query))
        else:
            self._finish(query)

    # ---- both

    def _hold(self, duration_ns: int) -> None:
        if duration_ns:
            self._rt.sleep_ns(duration_ns)

    def _fan_out(self, query: Query, wait: bool) -> None:
        command = self._shard_command(query.args.id, query.args.service_ns)
        if wait:
            query.signal = self._rt.event(
                f"query {query.args.id} complete", owed_by=lambda: [query.ctx] if query.ctx is not None else []
            )
            # A handoff may have come between the worker's look at the flag and the signal's birth.
            if query.handed_off:
                query.signal.set()
        query.ctx = fanout(self._cluster, command, lambda ctx: self._replies_complete(query), name=query.args.id)

    def _replies_complete(self, query: Query) -> None:
        """Thread: I/O (or the sender's, when nothing could be sent)."""
        with self._lock:
            query.complete = True
            signal = query.signal
        if signal is not None:
            signal.set()
        else:
            self._host.post(lambda: self._finish(query))

    def _finish(self, query: Query) -> None:
        ctx, args, on_main = query.ctx, query.args, query.where == "main"
        assert ctx is not None
        if args.work_ns:
            self._rt.sleep_ns(args.work_ns)
        if args.load_ns:
            if on_main:
                self._hold(args.load_ns)
            else:
                with self._host.module_lock:
                    self._hold(args.load_ns)
        reason = None
        if ctx.errors:
            reason = ctx.errors[0]
        elif ctx.unsent:
            # Upstream answers from the shards that it could send to; a result that is silently incomplete is no reply.
            reason = f"no connection to {', '.join(ctx.unsent)}"
        with self._lock:
            del self._in_flight[query]
            if reason is None:
                self._replied += 1
            else:
                self._count_failure_locked(reason)
        if reason is None:
            reply = resp_encode.array([resp_encode.bulk(args.id.encode()), resp_encode.integer(ctx.replied)])
        else:
            reply = resp_encode.error(f"ERR query failed: {reason}")
        if on_main:
            query.client.reply_now(reply)
        else:
            query.client.unblock(reply)

    def _count_failure_locked(self, reason: str) -> None:
        self._failed += 1
        key = reason if reason in self._by_reason or len(self._by_reason) < 64 else "other reasons"
        self._by_reason[key] = self._by_reason.get(key, 0) + 1

    @property
    def in_flight(self) -> int:
        """Admitted and without an outcome. Thread: any."""
        return len(self._in_flight)

    def statistics(self) -> dict[str, int]:
        """submitted, replied, failed, in flight, held by the gate, taken over by main. Thread: any.

        submitted = replied + failed + in_flight + held at any moment.
        """
        with self._lock:
            return {
                "submitted": self._submitted,
                "replied": self._replied,
                "failed": self._failed,
                "in_flight": len(self._in_flight),
                "held": self.gate.statistics()["held"] + len(self._released),
                "taken_over": self._taken_over,
            }

    def failures(self) -> dict[str, int]:
        """How many failed, by reason; at most 64 reasons are told apart. Thread: any."""
        with self._lock:
            return dict(self._by_reason)

    def __repr__(self) -> str:
        sums = f"submitted={self._submitted} replied={self._replied} failed={self._failed}"
        return f"<Queries {sums} in_flight={self.in_flight}>"
