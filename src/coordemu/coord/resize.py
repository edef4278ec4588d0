"""Resizer: carries out ``CONFIG SET WORKERS n`` by the steps of a `ResizePolicy`.

Role: the middle of the call chain, between the configuration setter and the two things that it resizes, the worker
threads and the connection pools. Upstream has one fixed order of steps and no record; here the policy is a value,
and each resize leaves a `Resize` with a journal of what was done when, and the drain receipts of the I/O threads.

A resize that shrinks goes through ``policy.order``; one that grows adds threads, then connections, in every history.
Parts of a resize may outlive the command: threads that leave when they are done, drains on the I/O threads, a
delayed trigger. They end in `Resize.receipts` and, for a policy that pauses, in the gate opening again.

A second CONFIG SET that arrives inside a yield of the first is refused, whatever the policy: the steps of two
resizes must not mix on main's stack. One that arrives when only asynchronous parts are left supersedes them, or is
refused (``overlap``).

Thread: main, for every method; `Resize.add_receipt` on the I/O threads. May block: as the policy says.
Upstream: set_workers in src/config.c, workersThreadPool_SetNumWorkers in src/util/workers.c, triggerConnPerShard and
MR_UpdateConnPoolSize in src/coord. Left out: CONFIG REWRITE, cluster-wide configuration.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from coordemu.coord.cluster import MRCluster
from coordemu.coord.config import Config, connections_per_io_thread, connections_per_shard
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.history import SYNC_REDUCE
from coordemu.coord.host import Host
from coordemu.coord.query import Queries
from coordemu.coord.resize_policy import ResizePolicy
from coordemu.coord.resize_record import JournalEntry, Resize
from coordemu.coord.workers import WorkersThreadPool
from coordemu.runtime.base import NS_PER_MS, Runtime, Timer

RESIZES_KEPT = 1024


class ResizeRefused(Exception):
    """CONFIG SET answers with this message; nothing was changed, or what was changed has been taken back."""


class Resizer:
    """Resizes workers and connections by a policy. One per coordinator."""

    def __init__(
        self,
        rt: Runtime,
        host: Host,
        config: Config,
        workers: WorkersThreadPool,
        cluster: MRCluster,
        queries: Queries,
        policy: ResizePolicy,
    ) -> None:
        """policy: may be exchanged between resizes (`policy` attribute)."""
        self._rt = rt
        self._host = host
        self._config = config
        self._workers = workers
        self._cluster = cluster
        self._queries = queries
        self._pool_mutex = rt.lock("workers resize mutex")  # PR 7194's guard
        self._busy = False
        self._reconcile_after = False
        self._pool_paused = False
        self._gate_closed_by: Resize | None = None
        self._trigger_timer: Timer | None = None
        self._pending_trigger: Resize | None = None
        self.policy = policy
        self.history: deque[Resize] = deque(maxlen=RESIZES_KEPT)

    @property
    def policy(self) -> ResizePolicy:
        """The policy of the next resize. Setting it raises ValueError when its "reduce" needs another pool."""
        return self._policy

    @policy.setter
    def policy(self, policy: ResizePolicy) -> None:
        by_number = policy.reduce == "by-number"
        if by_number != self._workers.by_number and not self._workers.faults:
            raise ValueError(f"policy {policy.name}: reduce {policy.reduce!r} needs another pool of workers")
        self._policy = policy
        self._queries.main_mode = policy.main_mode

    @property
    def under_way(self) -> bool:
        """A resize whose asynchronous parts have not ended: receipts, a delayed trigger, threads that have not left."""
        return (
            not all(resize.complete for resize in tuple(self.history))
            or self._pending_trigger is not None
            or self._workers.num_threads_alive > self._workers.num_threads
        )

    def set_workers(self, old: int, new: int) -> None:
        """Carry out the change; the configuration holds `new` already, as upstream stores before it acts.

        Raises ResizeRefused: the caller puts `old` back. Thread: main, module lock held. May block, as the policy says.
        """
        policy = self._policy
        if self._busy:
            raise ResizeRefused("ERR a resize is under way")
        if policy.overlap == "refuse" and self.under_way:
            raise ResizeRefused("ERR the last change of WORKERS has not ended")
        resize = self._begin(old, new)
        self._rt.trace("set_workers", "Resizer.set_workers", f"WORKERS {old} -> {new}, policy {policy.name}")
        self._note(resize, f"CONFIG SET WORKERS {new}", f"accepted; {self._queries.in_flight} queries in flight")
        said = "OK"
        try:
            if new < old:
                self._shrink(resize)
            elif new > old:
                self._grow(resize)
        except ResizeRefused as err:
            self._refused(resize, err)
            said = str(err)
            raise
        finally:
            self._end(resize, said)

    def set_conn_per_shard(self) -> None:
        """CONN_PER_SHARD has changed: the threads stay, the connections follow.

        Raises ResizeRefused while a resize is under way. Thread: main. May block: with drain "yield".
        """
        if self._busy:
            raise ResizeRefused("ERR a resize is under way")
        resize = self._begin(self._config.workers, self._config.workers)
        said = "OK"
        try:
            self._resize_connections(resize)
        except ResizeRefused as err:
            self._refused(resize, err)
            said = str(err)
            raise
        finally:
            self._end(resize, said)

    def _begin(self, old: int, new: int) -> Resize:
        before, after = self._cluster.conns_per_node, connections_per_io_thread(self._config)
        resize = Resize(self._policy, old, new, before, after, self._rt.now_ns())
        self.history.append(resize)
        self._busy = True
        return resize

    def _end(self, resize: Resize, said: str) -> None:
        self._busy = False
        resize.returned_ns = self._rt.now_ns()
        self._note(resize, "CONFIG SET returns", said)
        if self._reconcile_after:
            self._reconcile_after = False
            self._host.post(self._reconcile)
        if self._gate_closed_by is not None:
            self._host.post(self._open_gate_if_due)

    # ---- the two directions

    def _grow(self, resize: Resize) -> None:
        self._workers.set_num_workers()
        self._note(
            resize, f"add {resize.workers_after - resize.workers_before} threads", f"{resize.workers_after} wanted"
        )
        self._resize_connections(resize)

    def _shrink(self, resize: Resize) -> None:
        policy = resize.policy
        steps = list(policy.order)
        if policy.admission != "open" and "pause" not in steps:
            steps = ["pause", *steps]
        if ("pause" in steps or "pause-pool" in steps) and "resume" not in steps:
            steps = [*steps, "resume"]
        for step in steps:
            _CARRY_OUT[step](self, resize)

    def _refused(self, resize: Resize, err: ResizeRefused) -> None:
        resize.error = str(err)
        self._note(resize, "refused", resize.error)
        self._resume_pool()
        self._open_gate(resize)
        # The configuration gets its old value back when the refusal reaches it; only then do the sizes follow.
        self._host.post(self._reconcile)

    def _reconcile(self) -> None:
        if self._busy:
            # Run by a yield of the next resize (commands may be pipelined), whose steps must not be disturbed.
            self._reconcile_after = True
            return
        self._workers.set_num_workers()
        if self._cluster.conns_per_node < connections_per_io_thread(self._config):
            self._cluster.update_conn_pool_size(connections_per_shard(self._config))

    # ---- steps

    def _step_pause(self, resize: Resize) -> None:
        mode = "reject" if resize.policy.admission == "reject" else "pause"
        self._queries.gate.close(mode)
        self._gate_closed_by = resize
        self._note(resize, "queries paused", f"new ones {'get an error' if mode == 'reject' else 'wait'}")

    def _step_pause_pool(self, resize: Resize) -> None:
        if self._workers.paused:
            raise ResizeRefused("ERR the pool is paused already")
        self._workers.pause(wait=False)
        self._pool_paused = True
        self._note(resize, "pool paused", "its threads take no more jobs")

    def _resume_pool(self) -> None:
        # Only what a resize has paused: somebody else's pause is not ours to end.
        if self._pool_paused:
            self._pool_paused = False
            self._workers.resume()

    def _step_drain(self, resize: Resize) -> None:
        policy = resize.policy
        if policy.drain != "yield":
            # Upstream's own drain of the pool: nothing on a paused pool, else sleep and yield until the jobs are done.
            drained = self._workers.drain()
            self._note(resize, "drain the pool", "done" if drained else "does nothing on a paused pool")
            return
        self._begin_yield_drain(resize)

    def _begin_yield_drain(self, resize: Resize) -> None:
        policy, workers = resize.policy, self._workers
        self._request_shrink(resize)
        paused = self._queries.gate.mode != "open"
        if workers.paused:
            self._note(resize, "drain the pool", "does nothing on a paused pool")

        def drained() -> bool:
            # With the gate closed nothing new can come, so all that is under way is awaited, the jobs included. With it
            # open only the replies on the surplus are: the queries never stop.
            if paused and self._queries.in_flight:
                return False
            return self._cluster.shrink_hidden and not self._cluster.pending_total(resize.conns_after)

        began_ns = self._rt.now_ns()
        held, polls = self._host.yield_until(
            drained, policy.drain_poll_ms * NS_PER_MS, policy.drain_timeout_ms * NS_PER_MS
        )
        resize.polls = polls
        if held:
            return
        waited_ms = (self._rt.now_ns() - began_ns) / NS_PER_MS
        self._note(resize, "drain", f"deadline after {waited_ms:.1f} ms; {policy.at_deadline}")
        if policy.at_deadline == "raise":
            self._cluster.abandon_shrink()
            raise ResizeRefused(f"ERR the drain did not end within {policy.drain_timeout_ms} ms")

    def _step_shrink(self, resize: Resize) -> None:
        policy = resize.policy
        if policy.trigger_delay_ms:
            self._call_off_trigger()
            self._pending_trigger = resize
            resize.receipts_expected = 1  # corrected when it fires
            self._trigger_timer = self._trigger_timer or self._host.loop.timer(self._delayed_trigger, "delayed trigger")
            self._trigger_timer.start(policy.trigger_delay_ms * NS_PER_MS)
            self._note(resize, "trigger put off", f"{policy.trigger_delay_ms} ms")
            return
        self._shrink_connections(resize)

    def _resize_connections(self, resize: Resize) -> None:
        # More threads may come with fewer connections: an earlier deadline may have left some ("keep").
        if resize.conns_after < resize.conns_before:
            self._shrink_connections(resize)
        else:
            self._trigger(resize)

    def _shrink_connections(self, resize: Resize) -> None:
        policy = resize.policy
        if policy.drain != "yield":
            self._trigger(resize)
            return
        if not resize.receipts_expected:
            self._begin_yield_drain(resize)
        self._cluster.finish_shrink(resize.polls)
        self._host.yield_until(
            lambda: len(resize.receipts) >= resize.receipts_expected, NS_PER_MS, policy.drain_timeout_ms * NS_PER_MS
        )

    def _step_reduce(self, resize: Resize) -> None:
        count = resize.workers_before - resize.workers_after
        mode = "sync" if SYNC_REDUCE in self._workers.faults else resize.policy.reduce
        if self._workers.paused and not self._workers.by_number:
            raise ResizeRefused("ERR a paused pool can't be reduced: its threads would never take the admin jobs")
        if mode == "sync":
            self._workers.set_num_workers("sync")
        elif mode == "sync-unlocked":
            with self._host.module_lock_released(), self._pool_mutex:
                self._workers.set_num_workers("sync")
        else:
            self._workers.set_num_workers("async")
            if mode == "handoff":
                told = self._queries.hand_off(None if resize.workers_after == 0 else count)
                self._note(resize, "hand over", f"{told} unfinished queries go on on main")
        left = self._workers.num_threads_alive - resize.workers_after
        if left <= 0:
            done = "gone"
        elif mode.startswith("sync"):
            done = f"all passed the barrier; {left} on their way out"
        else:
            done = f"{'the number is stored' if self._workers.by_number else 'told to go'}; {left} still there"
        self._note(resize, f"remove {count} threads", done)

    def _step_wait_workers(self, resize: Resize) -> None:
        workers = self._workers
        self._rt.poll_until(
            lambda: workers.num_threads_alive <= resize.workers_after,
            NS_PER_MS,
            "worker threads to finish",
            owed_by=workers.threads,
        )
        self._note(resize, "wait for the workers", "gone")

    def _step_resume(self, resize: Resize) -> None:
        self._resume_pool()
        if resize.receipts_expected > len(resize.receipts) or self._pending_trigger is resize:
            self._note(resize, "resume", "when the drain has ended")
            return
        self._open_gate(resize)

    def _open_gate(self, resize: Resize) -> None:
        self._gate_closed_by = None
        if self._queries.gate.mode == "open":
            return
        count = self._queries.release_held()
        self._note(resize, "resume", f"{count} held queries admitted")

    # ---- trigger and receipts

    def _trigger(self, resize: Resize) -> None:
        # Noted first: the receipts may come at once.
        self._note(
            resize, "trigger", f"connections per node {resize.conns_before} -> {resize.conns_after}, on the I/O thread"
        )
        self._request_shrink(resize)

    def _delayed_trigger(self) -> None:
        resize, self._pending_trigger = self._pending_trigger, None
        if resize is not None:
            self._trigger(resize)

    def _call_off_trigger(self) -> None:
        """A later resize takes over; the one that was put off ends without a receipt."""
        resize, self._pending_trigger = self._pending_trigger, None
        if resize is not None and self._trigger_timer is not None:
            self._trigger_timer.stop()
            resize.receipts_expected = 0
            self._note(resize, "trigger called off", "a later change takes over")

    def _request_shrink(self, resize: Resize) -> None:
        self._rt.trace(
            "triggerConnPerShard",
            "Resizer._request_shrink",
            f"{resize.conns_before} -> {resize.conns_after} connections per node",
        )
        self._call_off_trigger()
        resize.receipts_expected = self._cluster.num_io_threads
        self._cluster.update_conn_pool_size(
            connections_per_shard(self._config),
            resize.policy.shrink_plan(),
            on_receipt=lambda receipt: self._add_receipt(resize, receipt),
        )

    def _add_receipt(self, resize: Resize, receipt: DrainReceipt) -> None:
        """Thread: I/O. The receipt is kept at once (a hung main must not hide it); what follows from it is main's
        work."""
        resize.receipts.append(receipt)
        ended_ns, fate = (
            receipt.ended_ns,
            f"{receipt.delivered} delivered, {receipt.failed} failed, {receipt.lost} lost",
        )
        if resize.policy.drain != "none":
            waited = f"{receipt.outcome} after {receipt.waited_ns / NS_PER_MS:.1f} ms"
            said = f"{waited}; {receipt.pending} replies pending, {fate}" if receipt.pending else "nothing was pending"
            resize.journal.append(JournalEntry(ended_ns, "drain", said))
        nodes = max(1, len(receipt.by_node))
        stopped = receipt.connections_stopped
        resize.journal.append(
            JournalEntry(
                ended_ns,
                f"stop {stopped // nodes} connections",
                f"on {'1 node' if nodes == 1 else f'each of {nodes} nodes'}, {resize.policy.stop}",
            )
        )
        if resize.policy.drain == "none" and receipt.pending:
            self._note(resize, "replies in flight at the stop", f"{receipt.pending}: {fate}")
        given_back = receipt.outcome == "deadline" and receipt.num_to == receipt.num_from
        if given_back and resize.policy.at_deadline == "raise" and resize.policy.drain != "yield":
            # The command's reply does not wait for these drains; the resize is all that can report it.
            resize.error = f"the drain did not end within {resize.policy.drain_timeout_ms} ms"
        self._host.post(self._open_gate_if_due)

    def _open_gate_if_due(self) -> None:
        # A policy that pauses lets the queries in when its asynchronous parts have ended too; while the command itself
        # runs, its own "resume" step does that. Whoever closed the gate last decides: the receipt of a resize that was
        # superseded comes while the next one drains.
        resize = self._gate_closed_by
        if resize is not None and resize.complete and not self._busy:
            self._open_gate(resize)

    def _note(self, resize: Resize, action: str, result: str) -> None:
        resize.journal.append(JournalEntry(self._rt.now_ns(), action, result))

    def statistics(self) -> dict[str, int]:
        """resizes ever kept (at most 1024), refused (those counted whose drain failed), under way. Thread: any."""
        return {
            "resizes": len(self.history),
            "refused": sum(1 for resize in tuple(self.history) if resize.error),
            "under_way": int(self.under_way),
        }

    def __repr__(self) -> str:
        return f"<Resizer policy={self._policy.name} resizes={len(self.history)}>"


_CARRY_OUT: dict[str, Callable[[Resizer, Resize], None]] = {
    "pause": Resizer._step_pause,
    "pause-pool": Resizer._step_pause_pool,
    "drain": Resizer._step_drain,
    "shrink": Resizer._step_shrink,
    "reduce": Resizer._step_reduce,
    "wait-workers": Resizer._step_wait_workers,
    "resume": Resizer._step_resume,
}
