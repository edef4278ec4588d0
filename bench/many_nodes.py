"""Many nodes: 1,000 nodes x 13 connections shrink to 1 each, with nothing and with something pending.

    python bench/many_nodes.py [--nodes 1000] [--connections 13]

Role: the size that upstream allows and nobody tries; a reply is pending on none, or on each, of the surplus. All
nodes are embedded shards in one child process, on ports of their own; one I/O thread owns all connections. The times
are those of the resize request on the I/O thread (the receipt's ended_ns - started_ns; with replies pending from the
last reply on), and of its receipt as the caller sees it; the baseline is to close as many sockets to the same shards
by hand. What must hold is checked (`facts`), and the script exits with 1 when it does not: 13,000 connections before,
1,000 after, all replies delivered, descriptors and threads back.

Thread: the caller's asks, the I/O thread does. Upstream: MRConnManager_Shrink over all nodes. Left out: several I/O
threads; they would divide the time.
"""

from __future__ import annotations

import queue
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arguments import Arguments, exit_with
from bench.measure import MS, Case, CaseResult, Contender, Effort, Progress, Report, run_case, silent
from bench.tables import print_report
from coordemu.coord.cluster import MRCluster
from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.io_runtime_ctx import IORuntimeCtx
from coordemu.coord.shrink_plan import ShrinkPlan
from coordemu.coord.topology import MRClusterTopology
from coordemu.lab.machine import count_resources
from coordemu.report.console import output, progress
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fd_limit import raise_fd_limit
from coordemu.shards.shard_process import ShardProcess

CONNS = 13
WAIT_S = 60
SERVICE_US = 1_500_000  # longer than it takes to send to all of the surplus
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
BY_HAND = "by hand: reset the sockets"
IDLE = "shrink, nothing pending"
PENDING = "shrink, 1 reply pending on each, from the last reply on"
SPARE_FDS = 200


class ManyNodes:
    """A cluster of many nodes that is shrunk and grown again."""

    def __init__(self, nodes: int, conns: int = CONNS) -> None:
        """Start the shards and connect. Raises ShardError; RuntimeError when not all connections come up."""
        self.wrong: list[str] = []
        self.nodes, self.conns = nodes, conns
        limit = raise_fd_limit()
        if limit < nodes * conns + SPARE_FDS:
            raise RuntimeError(f"{nodes * conns + SPARE_FDS} open files are needed and {limit} allowed (ulimit -n)")
        self._rt = ThreadsRuntime(seed=1)
        self._made: queue.SimpleQueue[DrainReceipt] = queue.SimpleQueue()
        self._last_reply_ns = 0
        self._before = count_resources()
        self._shards = ShardProcess(self._rt, nodes).start()
        self.addresses: list[Address] = self._shards.endpoints
        began = time.monotonic()
        self._cluster = MRCluster(self._rt, MRClusterTopology.of(*map(MREndpoint, self.addresses)), 1, conns)
        self._cluster.start()
        try:
            self._await_connected(conns)
        except RuntimeError:
            self.close()
            raise
        self.connect_s = time.monotonic() - began

    def close(self) -> None:
        """Take everything down, and look at what is left."""
        self._cluster.free()
        self._shards.stop()
        deadline = time.monotonic() + 10
        while (after := self._leaked()) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.wrong.extend(after)

    def _leaked(self) -> list[str]:
        after = count_resources()
        return [
            f"{key}: {self._before[key]} before, {after[key]} after"
            for key in ("threads", "fds", "sockets")
            if after[key] > self._before[key]  # fewer: a thread of somebody else has ended meanwhile
        ]

    def connected(self) -> int:
        """Connected connections now."""
        return self._cluster.statistics()["connected"]

    def _await_connected(self, per_node: int) -> None:
        wanted = per_node * self.nodes

        def all_stand() -> bool:
            return self.connected() == wanted

        if not self._rt.poll_until(all_stand, 20 * NS_PER_MS, "connections", WAIT_S * NS_PER_S):
            raise RuntimeError(f"{self.connected()} of {wanted} connections stand after {WAIT_S} s")

    def shrink(self, pending: bool) -> tuple[DrainReceipt, float, float]:
        """Grow to the full size, shrink to 1. Returns the receipt, the shrink's own time and the caller's, in ms."""
        self._cluster.update_conn_pool_size(self.conns)
        self._await_connected(self.conns)
        if pending:
            self._send_on_surplus()
        asked_ns = self._rt.now_ns()
        self._cluster.update_conn_pool_size(1, ShrinkPlan("drop", "event", 30_000), self._made.put)
        receipt = self._made.get(timeout=WAIT_S)
        seen_ns = self._rt.now_ns()
        self._check(receipt, pending)
        # The reply callback's time, so that the receipt's own bookkeeping is in the figure.
        since_ns = self._last_reply_ns if pending else receipt.started_ns
        return (
            receipt,
            (receipt.ended_ns - since_ns) / NS_PER_MS,
            (seen_ns - (since_ns if pending else asked_ns)) / NS_PER_MS,
        )

    def _send_on_surplus(self) -> None:
        sent: queue.SimpleQueue[int] = queue.SimpleQueue()
        command = pack_command("_FT.SEARCH", "idx", "bench", "SERVICE", str(SERVICE_US))

        def send(io: IORuntimeCtx, _data: Any) -> None:
            conns = [conn for pool in io.manager.pools.values() for conn in pool.conns[1:]]
            sent.put(sum(conn.send_command(command, self._on_reply) for conn in conns))
            io.request_completed()

        self._cluster.io_runtimes[0].schedule(send, None)
        surplus = self.nodes * (self.conns - 1)
        if (count := sent.get(timeout=WAIT_S)) != surplus:
            self.wrong.append(f"{count} of {surplus} commands could be sent")

    def _on_reply(self, _reply: Any, _error: str | None) -> None:
        self._last_reply_ns = self._rt.now_ns()

    def _check(self, receipt: DrainReceipt, pending: bool) -> None:
        surplus = self.nodes * (self.conns - 1)
        wanted = (surplus, surplus, "drained") if pending else (0, 0, "nothing-pending")
        got = (receipt.pending, receipt.delivered, receipt.outcome)
        if got != wanted or receipt.failed or receipt.lost:
            self.wrong.append(
                f"pending, delivered, outcome: {got}, not {wanted}; failed {receipt.failed}, lost {receipt.lost}"
            )
        owned = self._cluster.statistics()["owned"]
        if receipt.connections_stopped != surplus or owned != self.nodes or self.connected() != self.nodes:
            self.wrong.append(
                f"{receipt.connections_stopped} of {surplus} connections stopped; {owned} owned, {self.connected()} "
                f"connected, not {self.nodes}"
            )

    def close_by_hand(self, reset: bool) -> float:
        """Open as many sockets as the surplus has, to the same shards, and close them: ms.

        reset: by RST, as an abort does.
        """
        self._cluster.update_conn_pool_size(1)
        self._await_connected(1)
        socks = []
        for number in range(self.nodes * (self.conns - 1)):
            address = self.addresses[number % self.nodes]
            sock = socket.create_connection((address.host, address.port))
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            socks.append(sock)
        began = time.perf_counter()
        for sock in socks:
            sock.close()
        return (time.perf_counter() - began) * 1e3


def measure(effort: Effort, nodes: int, conns: int, told: Progress = silent) -> Report:
    """Measure one size. Raises ShardError, RuntimeError. Blocks."""
    told(f"connecting {nodes} x {conns}")
    rig = ManyNodes(nodes, conns)
    report = Report("many_nodes")
    seen: dict[str, list[float]] = {IDLE: [], PENDING: []}

    def sampler(name: str) -> Callable[[], float]:
        def sample() -> float:
            _, own_ms, seen_ms = rig.shrink(name == PENDING)
            seen[name].append(seen_ms)
            return own_ms

        return sample

    surplus = nodes * (conns - 1)
    case = Case(
        f"{nodes:,} nodes x {conns} -> 1: until {surplus:,} connections are stopped", MS,
        [
            Contender(BY_HAND, lambda: rig.close_by_hand(reset=True)),
            Contender("by hand: close the sockets", lambda: rig.close_by_hand(reset=False)),
            Contender(IDLE, sampler(IDLE), ours=True),
            Contender(PENDING, sampler(PENDING), ours=True),
        ],
        [BY_HAND], effort.pick(4, 2, 1),
    )  # fmt: skip
    try:
        report.cases.append(run_case(case, told))
    finally:
        rig.close()
    _conclude(report, rig, seen)
    return report


def _conclude(report: Report, rig: ManyNodes, seen: dict[str, list[float]]) -> None:
    result: CaseResult = report.cases[0]
    result.note = "Until the receipt is in the caller's hands: " + ", ".join(
        f"{name.split(',')[1].strip()} {sorted(values)[len(values) // 2]:,.0f} ms" for name, values in seen.items()
    )
    report.facts["connected"] = f"{rig.nodes * rig.conns:,} connections in {rig.connect_s:.1f} s"
    report.facts["checks"] = (
        "; ".join(rig.wrong)
        or f"{rig.nodes * rig.conns:,} -> {rig.nodes:,} connections every time, every reply delivered, threads, "
        f"sockets and descriptors back"
    )
    report.facts["held"] = not rig.wrong
    idle, pending = result.row(IDLE), result.row(PENDING)
    report.conclusion = (
        f"{result.title.partition(':')[0]}: {idle.median:,.0f} ms with nothing pending "
        f"({1 / idle.times_better[BY_HAND]:.2f} times closing the sockets by hand), {pending.median:,.0f} ms after the "
        f"last of the pending replies"
    )


def run(effort: Effort, told: Progress = silent) -> Report:
    """Measure. Blocks for about half a minute."""
    return measure(effort, effort.pick(1000, 200, 5), CONNS, told)


def main(arguments: list[str]) -> int:
    """The script. Returns the exit status: 1 when something did not hold."""
    parser = Arguments(prog="bench/many_nodes.py")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=CONNS)
    args = parser.parse_args(arguments)
    if not 1 <= args.nodes <= 4096 or args.connections < 2:
        parser.error("--nodes takes 1 to 4096, --connections 2 or more")
    try:
        report = measure(Effort("quick"), args.nodes, args.connections, lambda line: progress().print(line))
    except RuntimeError as err:
        print(f"bench/many_nodes.py: {err}", file=sys.stderr)
        return 3
    print_report(output(), report)
    return 0 if report.facts["held"] else 1


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))
