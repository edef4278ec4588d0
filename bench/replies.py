"""Reply queues: what it costs, per reply, to remember a callback and to keep the exact count of what is outstanding.

Role: one table per batch size (replies that one read delivers). The first looks at the queue alone: deque append and
popleft is the baseline, the exact counts come on top. The second looks at a whole MRConn, without the kernel:
send_command, then on_data with the replies, against the same steps written by hand without states, counts or ways to
fail.

Thread: the caller's. Upstream: __redisPushCallback, redisProcessCallbacks (hiredis async.c). Left out: the FIFO in C
(measured before the design: 109 ns per reply through two calls against 19 ns, see docs), sockets (`bench.commands`
has them).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

from bench.measure import NS, Case, Contender, Effort, Progress, Report, cost_ns, run_case, silent
from bench.stub_loop import connected_conn
from coordemu.coord.conn_handshake import pack_command
from coordemu.native import PendingTable

BATCHES = (1, 16, 64)
DEQUE = "deque append + popleft"
COUNTED = "deque, exact counts per batch"
BY_HAND = "by hand: join, Reader, deque, callback"
CONN = "MRConn: send_command, on_data"


class Queue:
    """A deque and what may count beside it: the C table, or a Python int. What the statements below are run on."""

    def __init__(self) -> None:
        self.deque: deque[object] = deque()
        self.table = PendingTable()
        self.table.attach(0, 0)
        self.table.set_connected(0, 0, True)

    def names(self, batch: int) -> dict[str, Any]:
        """The names that the statements use."""
        return {
            "append": self.deque.append, "popleft": self.deque.popleft, "count": self.table.count, "ints": [0],
            "turns": range(batch), "n": batch,
        }  # fmt: skip


def _statement(batch: int, sent: str, taken: str, *, per_reply: bool = False) -> str:
    """append and popleft, batch times each; sent and taken once per batch, or with per_reply each time."""
    loop = "" if batch == 1 else "for _ in turns: "
    if per_reply:
        return f"{loop}append(None); {sent}\n{loop}popleft(); {taken}"
    return f"{loop}append(None)\n{sent}\n{loop}popleft()\n{taken}"


def _callback(_reply: Any, _error: str | None) -> None:
    """What every reply is given to."""


COMMAND, ONE_REPLY = pack_command("GET", "key"), b"$3\r\nabc\r\n"


def _by_hand(batch: int) -> Callable[[], None]:
    queue: deque[Callable[[Any, str | None], None]] = deque()
    reader = hiredis.Reader()
    data, turns, out = ONE_REPLY * batch, range(batch), list[bytes]()
    append, popleft, write, feed, gets = queue.append, queue.popleft, out.append, reader.feed, reader.gets

    def turn() -> None:
        for _ in turns:
            write(COMMAND)
            append(_callback)
        b"".join(out)
        out.clear()
        feed(data)
        while (reply := gets()) is not False:
            popleft()(reply, None)

    return turn


def _whole_conn(batch: int) -> Callable[[], None]:
    conn = connected_conn(PendingTable())
    data, turns = ONE_REPLY * batch, range(batch)
    send, on_data, flush = conn.send_command, conn.on_data, conn.context.flush_counts

    def turn() -> None:
        for _ in turns:
            send(COMMAND, _callback)
        flush()
        on_data(data)

    return turn


def _on_queue(name: str, batch: int, effort: Effort, statement: str, *, ours: bool = False) -> Contender:
    return Contender(name, cost_ns(statement, Queue().names(batch), effort.pick(3, 2, 1), per=batch), ours)


def _on_conn(name: str, turn: Callable[[], None], batch: int, effort: Effort, *, ours: bool = False) -> Contender:
    return Contender(name, cost_ns("turn()", {"turn": turn}, effort.pick(3, 2, 1), per=batch), ours)


def run(effort: Effort, progress: Progress = silent) -> Report:
    """Measure. Blocks for some seconds."""
    report = Report("replies")
    rounds = effort.pick(25, 7, 1)
    for batch in BATCHES:
        in_c, in_python = ("count(0, 0, n)", "count(0, 0, -n)"), ("ints[0] += n", "ints[0] -= n")
        each = _statement(batch, "count(0, 0, 1)", "count(0, 0, -1)", per_reply=True)
        queue = Case(
            f"the queue of callbacks, {batch} per read", NS,
            [
                _on_queue(DEQUE, batch, effort, _statement(batch, "", "")),
                _on_queue("deque, a Python int per batch", batch, effort, _statement(batch, *in_python)),
                _on_queue(COUNTED, batch, effort, _statement(batch, *in_c), ours=True),
                _on_queue("deque, exact counts per reply", batch, effort, each),
            ],
            [DEQUE], rounds, "Per reply. coordemu counts once per batch; the last row counts each reply.",
        )  # fmt: skip
        conn = Case(
            f"a connection without its socket, {batch} per read", NS,
            [
                _on_conn(BY_HAND, _by_hand(batch), batch, effort),
                _on_conn(CONN, _whole_conn(batch), batch, effort, ours=True),
            ],
            [BY_HAND], rounds, "Per command and reply, a callback each.",
        )  # fmt: skip
        report.cases += [run_case(queue, progress), run_case(conn, progress)]
    shares = {batch: report.cases[2 * number].row(COUNTED) for number, batch in enumerate(BATCHES)}
    costs = ", ".join(f"{1 / row.times_better[DEQUE]:.2f} at {batch}" for batch, row in shares.items())
    whole = report.cases[3].row(CONN)
    report.conclusion = (
        f"exact counts cost {costs} times a bare deque; a whole MRConn {whole.median:.0f} ns per command and reply "
        f"at 16 per read, {1 / whole.times_better[BY_HAND]:.2f} times the same by hand"
    )
    return report
