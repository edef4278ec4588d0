"""The seven steps of the call chain, from a run.

Role: what ``coordemu chain`` prints: for each step of upstream's chain from CONFIG SET to the stopped connections,
the thread that ran it, upstream's function, ours, and when, as recorded by the run's trace. A step that the run did
not record says so.

Thread: the caller's. Upstream: the write-ups' list of seven steps. Left out: everything in the trace that is no
step of the chain (``--trace`` writes it all).
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordemu.lab.result import ChainStep, Result

# Upstream's functions, in the chain's order; the trace decides what is shown for each.
STEPS = (
    ("the setter stores the value", "set_workers"),
    ("the pool is told its size", "workersThreadPool_SetNumWorkers"),
    ("the coordinator is triggered", "triggerConnPerShard"),
    ("a resize request per I/O runtime", "MR_UpdateConnPoolSize"),
    ("the request crosses to the I/O thread", "IORuntimeCtx_Schedule"),
    ("the pools are shrunk", "MRConnManager_Shrink"),
    ("the surplus is stopped", "MRConn_Stop"),
)


def chain_steps(result: Result) -> list[tuple[str, str, ChainStep | None]]:
    """(what, upstream's function, the first recorded step of that name or None) for each of the seven."""
    found: list[tuple[str, str, ChainStep | None]] = []
    for what, upstream in STEPS:
        found.append((what, upstream, next((step for step in result.chain if step.upstream == upstream), None)))
    return found


def print_chain(console: Console, result: Result) -> None:
    """Print the seven steps of one run."""
    table = Table(
        title=f"CONFIG SET WORKERS, policy {escape(str(result.policy['name']))}",
        title_justify="left",
        title_style="bold",
    )
    for name, right in (
        ("", True),
        ("time", True),
        ("thread", False),
        ("upstream", False),
        ("coordemu", False),
        ("what", False),
    ):
        fixed = name in ("time", "thread", "upstream")
        table.add_column(name, justify="right" if right else "left", no_wrap=fixed, overflow="fold")
    for number, (what, upstream, step) in enumerate(chain_steps(result), 1):
        if step is None:
            table.add_row(str(number), "never", "", upstream, "", f"{what}: not reached in this run")
        else:
            table.add_row(
                str(number),
                f"{step.at_ms:.2f} ms",
                escape(step.thread),
                upstream,
                escape(step.ours),
                escape(f"{what}: {step.detail}"),
            )
    console.print(table)
