"""ResizePolicy: one way of carrying out ``CONFIG SET WORKERS n``, as a value.

Role: the histories of the incident differ in a handful of places only; each is one field here, so that a
policy can be named, compared with another, overridden field by field, and written into a result. The steps
that obey it are in `coordemu.coord.resize`; the part for the I/O thread is a `ShrinkPlan`.

The named policies (`POLICIES`) are of three families. ``writeup-*`` and the two alternatives follow the
write-ups of the incident, whose stop leaves replies undelivered (``stop="drop"``) and whose main thread waits for
the replies of a query that it runs itself (``main_mode="block"``). ``shrink-drain-*`` put the proposed drain where
upstream's shrink really runs, on the I/O thread. ``upstream-*`` are the module's own forms: before the incident, and
the three attempts. ``coordemu-safe`` is ours, and is to stand every order and every plan (docs/coordemu-safe.md).
`expected` is what the design foresaw; a run confirms or refutes it, and the README says which.

Thread: frozen, any. Upstream: src/util/workers.c, src/config.c, src/coord/rmr/conn.c at the commits of PR 7193, 7194
and 7410. Left out: policies for growing; every history grows in the same way (add threads, then expand), only that
``coordemu-safe`` does not wait for the threads.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from coordemu.coord.shrink_plan import AT_DEADLINE, DRAIN_MODES, STAY_MODES, STOP_MODES, ShrinkPlan

REDUCE_MODES = ("sync", "sync-unlocked", "async", "by-number", "handoff")
ADMISSION_MODES = ("open", "pause", "reject")
OVERLAP_MODES = ("supersede", "refuse")
MAIN_MODES = ("block", "async")
STEPS = ("pause", "pause-pool", "drain", "shrink", "reduce", "wait-workers", "resume")

_CHOICES: dict[str, tuple[str, ...]] = {
    "reduce": REDUCE_MODES,
    "stop": STOP_MODES,
    "drain": DRAIN_MODES,
    "admission": ADMISSION_MODES,
    "at_deadline": AT_DEADLINE,
    "stay": STAY_MODES,
    "overlap": OVERLAP_MODES,
    "main_mode": MAIN_MODES,
}

# Orders that could only hang, or drain what is gone.
_BEFORE = (
    ("reduce", "wait-workers", "threads that were not told to go are waited for in vain"),
    ("wait-workers", "pause-pool", "the threads of a paused pool do not hear that they are to go"),
    ("drain", "shrink", "what has been stopped can't be drained"),
)


class UnknownPolicy(ValueError):
    """No policy has that name; the message names the nearest one."""


@dataclass(frozen=True, slots=True)
class ResizePolicy:
    """How WORKERS and the connection pools are reduced.

    name: what it is called.
    summary, source, expected: a paragraph, where it comes from, the outcome that is expected in scenario mod-11658.
    reduce: "sync" (main waits for the threads with the module lock held: before PR 7410), "sync-unlocked" (it lets go
        of the lock while it waits: PR 7194), "async" (admin jobs, nobody waits: PR 7410), "by-number" (a number is
        stored, up or down, and the threads obey it: `coordemu.coord.thpool_by_number`; it needs a pool of its own, so
        it is chosen when the coordinator is made), "handoff" (threads go at once and main takes over their unfinished
        queries: the write-up's drawing).
    stop, drain, drain_timeout_ms, drain_poll_ms, at_deadline, stay: see `ShrinkPlan`.
    admission: "open", "pause" (new queries wait until the resize is over), "reject" (they get an error).
    order: the steps, in order, each one of `STEPS`. "pause" closes the gate before the pool; "pause-pool" is the
        pool's own pause; "drain" is main's waiting (with drain "yield" it polls and yields); "wait-workers" waits,
        module lock held, until the threads have gone. An order that could only hang is refused.
    overlap: a second CONFIG SET while one is under way: "supersede" or "refuse".
    main_mode: a query that runs on main: "block" (main waits for its replies, lock held) or "async" (main only starts
        it).
    trigger_delay_ms: how long the shrink is put off after the reduce; 0 or more, and 0 with drain "yield".
    """

    name: str
    summary: str = ""
    source: str = ""
    expected: str = ""
    reduce: str = "async"
    stop: str = "graceful"
    drain: str = "none"
    admission: str = "open"
    order: tuple[str, ...] = ("reduce", "shrink")
    drain_timeout_ms: int = 5000
    drain_poll_ms: int = 10
    at_deadline: str = "force"
    stay: str = "first"
    overlap: str = "supersede"
    main_mode: str = "async"
    trigger_delay_ms: int = 0

    def __post_init__(self) -> None:
        for field_name, allowed in _CHOICES.items():
            value = getattr(self, field_name)
            if value not in allowed:
                raise ValueError(f"{field_name} {value!r} is none of {', '.join(allowed)}")
        for step in self.order:
            if step not in STEPS:
                raise ValueError(f"order: step {step!r} is none of {', '.join(STEPS)}")
        for needed in ("reduce", "shrink"):
            if needed not in self.order:
                raise ValueError(f"order: step {needed!r} is missing")
        if len(set(self.order)) != len(self.order):
            raise ValueError("order: a step stands twice")
        for first, second, why in _BEFORE:
            if {first, second} <= set(self.order) and self.order.index(first) > self.order.index(second):
                raise ValueError(f"order: {first!r} must stand before {second!r}: {why}")
        if self.trigger_delay_ms < 0:
            raise ValueError(f"trigger_delay_ms {self.trigger_delay_ms} is below 0")
        if self.trigger_delay_ms and self.drain == "yield":
            raise ValueError("trigger_delay_ms: with drain 'yield' main waits in the command; nothing can be put off")
        self.shrink_plan()

    def shrink_plan(self) -> ShrinkPlan:
        """What the I/O thread needs to know of this policy."""
        return ShrinkPlan(
            stop=self.stop,
            drain=self.drain,
            drain_timeout_ms=self.drain_timeout_ms,
            drain_poll_ms=self.drain_poll_ms,
            at_deadline=self.at_deadline,
            stay=self.stay,
        )

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {**asdict(self), "order": list(self.order)}

    def override(self, **changes: Any) -> ResizePolicy:
        """This policy with some fields changed; None means unchanged. The name says what was changed.

        Raises ValueError for a value that the field does not take, TypeError for a field that does not exist.
        """
        known = {f.name for f in fields(self)}
        for key in changes:
            if key not in known:
                raise TypeError(f"a resize policy has no field {key!r}")
        real = {k: v for k, v in changes.items() if v is not None and v != getattr(self, k)}
        if not real:
            return self
        said = ",".join(
            f"{k}={'>'.join(v) if isinstance(v, tuple) else v}" for k, v in sorted(real.items()) if k != "name"
        )
        # What the design expects was said of the policy as it stands.
        return replace(self, **{"name": f"{self.name}[{said}]", "expected": "", **real})


_ALL = (
    ResizePolicy(
        name="writeup-before",
        summary="The incident as the write-ups draw it. The worker threads go at once and main takes over their "
        "unfinished queries; "
        "the surplus connections are stopped and the replies on them are never delivered, so main waits for ever.",
        source="the write-ups of MOD-11658: the state before the fix",
        expected="deadlocked",
        reduce="handoff",
        stop="drop",
        main_mode="block",
    ),
    ResizePolicy(
        name="writeup-fix",
        summary="The write-ups' five steps, with a gate in front of the pool for the pause: hold new queries back, "
        "drain (main polls and "
        "yields, so that PING is answered), shrink, remove the threads, let the queries in.",
        source="the write-ups of MOD-11658: the proposed fix",
        expected="healthy",
        reduce="sync",
        stop="drop",
        drain="yield",
        admission="pause",
        order=("pause", "drain", "shrink", "reduce", "resume"),
        main_mode="block",
    ),
    ResizePolicy(
        name="writeup-fix-pool-pause",
        summary="The same five steps taken literally, with the pool's own pause. Upstream forbids reducing a "
        "paused pool (its threads "
        "would never take the admin jobs), and draining a paused pool does nothing: the resize is refused.",
        source="the write-ups of MOD-11658: the proposed fix, read literally",
        expected="refused",
        reduce="async",
        stop="drop",
        drain="yield",
        order=("pause-pool", "drain", "shrink", "reduce", "resume"),
        main_mode="block",
    ),
    ResizePolicy(
        name="shrink-drain-literal",
        summary="The write-ups' drain inside MRConnManager_Shrink as it is written: sleep and poll. The shrink "
        "runs on the I/O thread, "
        "the thread that would read the replies, so it waits out its whole deadline and then stops by force.",
        source="the write-ups of MOD-11658: the code for conn.c",
        expected="lost",
        stop="drop",
        drain="block-loop",
    ),
    ResizePolicy(
        name="shrink-drain-timer",
        summary="The two-phase shrink polled from a timer of the loop: what the write-ups' code meant. The loop "
        "goes on reading; the "
        "drain ends up to one poll interval after the last reply.",
        source="coordemu, after the write-ups",
        expected="healthy",
        stop="drop",
        drain="timer",
    ),
    ResizePolicy(
        name="shrink-drain-event",
        summary="The two-phase shrink without polling: the thread that takes the last reply goes on with the shrink.",
        source="coordemu",
        expected="healthy",
        stop="drop",
        drain="event",
    ),
    ResizePolicy(
        name="wait-workers-first",
        summary="The first alternative: wait on main until the worker threads have finished, then shrink. Main "
        "holds the module "
        "lock while it waits, and a worker may need it to finish.",
        source="the write-ups of MOD-11658: alternative 1",
        expected="deadlocked",
        stop="drop",
        order=("reduce", "wait-workers", "shrink"),
        main_mode="block",
    ),
    ResizePolicy(
        name="delay-trigger",
        summary="The second alternative: put the shrink off by a fixed time and hope that the replies have come. A "
        "reply that "
        "takes longer than the delay is dropped all the same.",
        source="the write-ups of MOD-11658: alternative 2",
        expected="lost",
        stop="drop",
        trigger_delay_ms=10,
    ),
    ResizePolicy(
        name="upstream-before",
        summary="The module before the fix: main, holding the module lock, waits at the pool's barrier for every "
        "worker, and a worker that "
        "loads documents waits for the module lock. Connections are stopped gracefully and have no part in it.",
        source="RediSearch before PR 7410",
        expected="deadlocked",
        reduce="sync",
    ),
    ResizePolicy(
        name="upstream-7193",
        summary="The first attempt: reduce without waiting, and refuse a further change while one is under way.",
        source="RediSearch PR 7193 (closed)",
        expected="healthy",
        overlap="refuse",
    ),
    ResizePolicy(
        name="upstream-7194",
        summary="The second attempt: let go of the module lock while main waits for the threads, and guard the "
        "pool with a mutex. No "
        "cycle, but main answers nobody until the last worker has finished.",
        source="RediSearch PR 7194 (closed)",
        expected="healthy",
        reduce="sync-unlocked",
    ),
    ResizePolicy(
        name="upstream-7410",
        summary="The merged fix: admin jobs tell the threads to go, and nobody waits for them.",
        source="RediSearch PR 7410 (merged 2025-11-25)",
        expected="healthy",
    ),
    ResizePolicy(
        name="coordemu-safe",
        summary="Nobody waits for anybody, growing included. The number of threads is stored, and each thread compares "
        "itself with it when it looks for work, so that a pool that still drains needs no revival; surplus connections "
        "leave the round robin at once and are stopped, gracefully, after their last reply.",
        source="coordemu",
        expected="healthy",
        reduce="by-number",
        drain="event",
        stay="connected",
    ),
)

POLICIES: dict[str, ResizePolicy] = {policy.name: policy for policy in _ALL}


def get_policy(name: str) -> ResizePolicy:
    """The named policy. Raises UnknownPolicy with the nearest name."""
    try:
        return POLICIES[name]
    except KeyError:
        near = get_close_matches(name, POLICIES, n=1, cutoff=0.0)[0]  # however far: one of a dozen names
        raise UnknownPolicy(f"no policy is called {name!r}; did you mean {near!r}? (see: coordemu policies)") from None
