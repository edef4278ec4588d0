"""The seam: what the runtime's named primitives cost beside those of the standard library.

Role: the layers never touch threading; each lock knows its owner and its waiters, each shared variable can be watched
by a simulator. On real threads that should cost next to nothing. The baselines are what one would have written
otherwise.

Thread: the caller's; nobody contends, which is the common case of these locks. Upstream: pthread_mutex_t, C11
atomics. Left out: contended locks, whose cost is the scheduler's.
"""

from __future__ import annotations

import threading
from typing import Any

from bench.measure import NS, Case, Contender, Effort, Progress, Report, cost_ns, run_case, silent
from coordemu.runtime.threads import ThreadsRuntime


class _Plain:
    """An object with a plain attribute."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


def _with(lock: str) -> str:
    return f"with {lock}: pass"


def run(effort: Effort, progress: Progress = silent) -> Report:
    """Measure. Blocks for some seconds."""
    rt = ThreadsRuntime(seed=1)
    rt.current()
    names: dict[str, Any] = {
        "rt": rt, "threading": threading, "lock": threading.Lock(), "rlock": threading.RLock(),
        "named": rt.lock("bench"), "plain": _Plain(), "cell": rt.cell(0, "bench"),
    }  # fmt: skip
    ms, rounds = effort.pick(3, 2, 1), effort.pick(25, 7, 1)
    cases = [
        ("lock: acquire and release, uncontended", [
            ("threading.Lock", "lock.acquire(); lock.release()"),
            ("threading.RLock", "rlock.acquire(); rlock.release()"),
            ("rt.lock", "named.acquire(); named.release()"),
        ]),
        ("lock: with statement, uncontended", [
            ("threading.Lock", _with("lock")),
            ("threading.RLock", _with("rlock")),
            ("rt.lock", _with("named")),
        ]),
        ("shared variable: read", [("plain attribute", "plain.value"), ("rt.cell", "cell.value")]),
        ("shared variable: write", [("plain attribute", "plain.value = 1"), ("rt.cell", "cell.value = 1")]),
        ("shared variable: exchange", [
            ("threading.Lock around a plain attribute", "with lock: old = plain.value; plain.value = 1"),
            ("rt.cell", "cell.exchange(1)"),
        ]),
        ("one-shot event: make, set, wait", [
            ("threading.Event", "e = threading.Event(); e.set(); e.wait()"),
            ("rt.event", "e = rt.event('e'); e.set(); e.wait()"),
        ]),
    ]  # fmt: skip
    report = Report("seam")
    for title, statements in cases:
        contenders = [
            Contender(name, cost_ns(statement, names, ms), ours=name.startswith("rt."))
            for name, statement in statements
        ]
        report.cases.append(run_case(Case(title, NS, contenders, [statements[0][0]], rounds), progress))
    shares = [
        (case.title, 1 / case.rows[-1].times_better[case.baselines[0]], case.baselines[0]) for case in report.cases
    ]
    report.conclusion = "; ".join(f"{title}: {share:.2f} times {baseline}" for title, share, baseline in shares)
    return report
