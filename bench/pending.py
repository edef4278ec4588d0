"""Pending check: is any reply outstanding on the connections that a shrink takes away, and on how many of them?

Role: one table per size, nothing pending on the surplus (the longest way for everything that scans) and one reply
pending on each connection that stays (so that looking at a grand total would not do). Baselines: an empty call into C,
and a Python loop over the deques, as a port without a table would have it.

Thread: the caller's. Upstream: MRConn_HasPendingOperations over all connections (the write-up's proposal for conn.c).
Left out: upstream's pointer chase in C (it would need a C build of its own), replies that arrive meanwhile.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from bench.measure import NS, Case, Contender, Effort, Progress, Report, cost_ns, run_case, silent
from coordemu._native import lib
from coordemu.native import PendingTable

CONNS_PER_NODE = 13
KEEP = 1
_nothing = lib.native_nothing

EMPTY_CALL = "empty C call"
PYTHON_LOOP = "Python loop"
COUNTER = "O(1) Python counter"
ANY = "any_pending, as the layers call it"
SCAN = "scan_pending, full scan"
FIND = "bytearray.find"


class Conn:
    """What the Python loop looks at: a connection with its deque of callbacks."""

    __slots__ = ("connected", "index", "replies")

    def __init__(self, index: int) -> None:
        self.index = index
        self.connected = True
        self.replies: deque[object] = deque()


def _python_loop(conns: list[Conn]) -> bool:
    for conn in conns:  # noqa: SIM110
        if conn.connected and conn.replies:
            return True
    return False


class _Counter:
    """An O(1) counter in Python: outstanding replies per connection index, and their sum at index >= keep."""

    def __init__(self) -> None:
        self.by_index = [0] * CONNS_PER_NODE
        self.surplus = 0

    def any_pending(self) -> bool:
        return self.surplus != 0

    def any_at_or_above(self, num: int) -> bool:
        return any(self.by_index[num:])


class _EmptyCall:
    """An empty C function behind a Python method, as PendingTable.any_pending is a C function behind one."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def nothing(self, num: int) -> bool:
        return _nothing(self._table, num)


def _case(nodes: int, conns_per_node: int, effort: Effort) -> Case:
    total = nodes * conns_per_node
    table = PendingTable()
    conns: list[Conn] = []
    for node in range(nodes):
        for index in range(conns_per_node):
            table.attach(node, index)
            table.set_connected(node, index, True)
            conn = Conn(index)
            if index < KEEP:
                table.count(node, index, 1)
                conn.replies.append(None)
            conns.append(conn)
    surplus = [conn for conn in conns if conn.index >= KEEP]
    flags = bytearray(b"\1" * (nodes * KEEP) + b"\0" * len(surplus))  # index-major, as the C table has it
    names = {
        "table": table, "raw": table._table, "lib": lib, "any_": lib.pending_table_any, "nothing": _nothing,
        "surplus": surplus, "loop": _python_loop, "flags": flags, "start": nodes * KEEP, "counter": _Counter(),
        "empty": _EmptyCall(table._table),
    }  # fmt: skip
    ms = effort.pick(3, 2, 1)
    contenders = [
        Contender(EMPTY_CALL, cost_ns("nothing(raw, 1)", names, ms)),
        Contender("empty C call behind a Python method", cost_ns("empty.nothing(1)", names, ms)),
        Contender(PYTHON_LOOP, cost_ns("loop(surplus)", names, ms)),
        Contender(FIND, cost_ns("flags.find(1, start)", names, ms)),
        Contender(COUNTER, cost_ns("counter.any_pending()", names, ms)),
        Contender("Python counters by index, any size", cost_ns("counter.any_at_or_above(1)", names, ms)),
        Contender("any_pending's own C function", cost_ns("any_(raw, 1)", names, ms), ours=True),
        Contender(ANY, cost_ns("table.any_pending(1)", names, ms), ours=True),
        Contender("pending_total, replies outstanding", cost_ns("table.pending_total(1)", names, ms), ours=True),
        Contender(SCAN, cost_ns("table.scan_pending(1)", names, ms), ours=True),
    ]
    return Case(
        f"pending at index >= {KEEP}? {total:,} connections, {nodes:,} nodes", NS, contenders,
        [PYTHON_LOOP, FIND, COUNTER], effort.pick(15, 5, 1), limits=[EMPTY_CALL],
    )  # fmt: skip


def run(effort: Effort, progress: Progress = silent) -> Report:
    """Measure. Blocks for about half a minute."""
    report = Report("pending")
    sizes = [(1, 13), (100, 10), (10_000, 10)] if effort.name != "smoke" else [(1, 13), (10, 10)]
    for nodes, conns_per_node in sizes:
        report.cases.append(run_case(_case(nodes, conns_per_node, effort), progress))
    for case in report.cases:
        case.note = (
            "Python loop: the deques of the surplus, in order. bytearray.find: one flag per connection, index-major; "
            "nobody keeps those here. O(1) Python counter: for one size, known beforehand. Times are processor time."
        )
    last = report.cases[-1]
    flat = last.row(ANY).median / report.cases[0].row(ANY).median
    report.facts["any_pending at the largest size / at 13 connections"] = f"{flat:.2f}"
    report.conclusion = (
        f"{last.title.rpartition('? ')[2]}: any_pending takes {last.row(ANY).median:.0f} ns, "
        f"{last.row(ANY).times_better[PYTHON_LOOP]:,.0f} times less than the Python loop; the full scan "
        f"{last.row(SCAN).times_better[PYTHON_LOOP]:,.0f} times less"
    )
    return report
