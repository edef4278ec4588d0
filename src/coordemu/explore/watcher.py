"""Watcher: a strategy that notes everything which a search needs to know of a run.

Role: the common part of the searches that know partial orders. It is asked for each step, and looks at what the one
before it did: what it touched, whom it let go on, who cannot go on for want of a lock, whether time has passed. Which
actor goes is up to `decide`.

Who is still blocked when a run ends, or when time passes, has its say too: a task that waits for a held lock could have
been first there, and its next step may never come to show that. `blocked` has these.

Thread: the simulator's one. Upstream: none. Left out: what calm stretches touch is put to the step before them.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordemu.explore.dependency import ACQUIRES, ALL, READS, WRITES, Fingerprint, Past, fingerprint, footprint_of
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_lock import SimLock
from coordemu.runtime.sim_outcome import DEADLOCK, ERROR, PAUSED
from coordemu.runtime.sim_schedule import CLOCK_NAME, SimDivergence
from coordemu.runtime.sim_task import Actor, SimTask

# Who waits: the number of steps at that moment, the actor, what is in its past, the step that took the lock.
Blocked = tuple[int, int, int, int]


class _Moments(list[int]):
    """The core's list of when time passed. touches: how many the step before had noted by then."""

    def __init__(self) -> None:
        super().__init__()
        self.touches: list[int] = []
        self.core: SimCore | None = None

    def append(self, step: int) -> None:
        """Time is about to pass."""
        super().append(step)
        log = self.core.log if self.core is not None else None
        self.touches.append(len(log) if log is not None else 0)


class Watcher:
    """Notes one run. To be given to `play` together with `attach` and footprints.

    past, known: the notes of an earlier run that was the same up to step `known`; from there on they are made anew.
    """

    def __init__(self, past: Past | None = None, known: int = 0) -> None:
        self.past = past or Past()
        self._known = known
        self._pending = self.past.cut_back(known)
        self._step = 0
        self._name = "systematic"
        self.blocked: list[Blocked] = []
        self._sim: SimRuntime | None = None
        self._explored = False
        self._actors: list[Actor] = []
        self._waiting: dict[int, tuple[Actor, object]] = {}
        self._enabled_by: dict[int, tuple[int, ...]] = {}
        self._open: tuple[int, Actor, tuple[int, ...], int, bool] | None = None
        self._moments = _Moments()
        self._moments_seen = 0
        self._passed: Actor | None = None
        self._misfit: SimDivergence | None = None

    def attach(self, sim: SimRuntime) -> None:
        """The run is to be that of this runtime."""
        self._sim = sim
        self._explored = sim.schedule().clock == "explored"
        self._moments.core = sim.core
        sim.core.time_passed_at = self._moments

    def decide(self, step: int, enabled: Sequence[Actor], last: Actor) -> Actor:
        """Who goes: one of `enabled`. step: its number."""
        return self.run_on(enabled, last)

    def decide_pick(self, step: int, count: int) -> int:
        """What is picked: 0 .. count - 1."""
        return 0

    def misfit(self, step: int) -> SimDivergence:
        """To be raised when the program does not do what it did before."""
        self._misfit = SimDivergence(step + 1, "the program went another way than before: it is not repeatable")
        return self._misfit

    def check(self) -> None:
        """Raises RuntimeError when there was a misfit."""
        if self._misfit is not None:
            raise RuntimeError(str(self._misfit))

    def run_on(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """Of some actors (at least one, by number) the last if it is there and did not give way, else the next."""
        if last is not self._passed and last in enabled:
            return last
        return next((actor for actor in enabled if actor.number > last.number), enabled[0])

    def free_to_go_on(self, last: Actor) -> bool:
        """Whether to choose another actor than the last interrupts it."""
        return last.enabled and last is not self._passed

    def note_blocked(self, cut: bool) -> None:
        """Note who waits for a lock. cut: whether the last step ended the run, perhaps after it had released one."""
        past = self.past
        for actor in self._actors:
            if not isinstance(actor, SimTask):
                continue
            lock = actor.waitable
            if isinstance(lock, SimLock) and lock.owner is not actor and (cut or lock.owner is not None):
                own = past.own_past(actor.number, self._enabled_by.get(actor.number, ()))
                taken = past.acquired(lock.uid)
                if taken >= 0 and not own >> taken & 1:
                    self.blocked.append((len(past.actors), actor.number, own, taken))

    # -- what the runtime calls

    @property
    def name(self) -> str:
        """The runtime asks for it when the run has ended, and nothing of it has been taken down yet: the last chance
        to look."""
        sim = self._sim
        if sim is not None and not sim.core.dead and sim.core.end is not None and self._open is not None:
            self._close(sim, at_the_end=True)
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def born(self, actor: Actor) -> None:
        """Until somebody enables it it waits."""
        self._actors.append(actor)
        self._waiting[actor.number] = (actor, None)

    def gave_way(self, actor: Actor) -> None:
        """To choose another after it interrupts nobody."""
        self._passed = actor

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """Look back, decide, note."""
        sim = self._sim
        assert sim is not None, "a watcher is attached before the run"
        step = self._step
        self._step = step + 1
        if step < self._known:
            chosen = self.decide(step, enabled, last)
            self._passed = None
            return chosen
        if self._open is not None:
            self._close(sim, at_the_end=False)
        elif step == self._known:
            self._begin()
        past = self.past
        chosen = self.decide(step, enabled, last)
        self._passed = None
        wanted = chosen.waitable if isinstance(chosen, SimTask) else None
        uid = wanted.uid if isinstance(wanted, SimLock) else 0
        # Whose time has run out does not wait for the lock any more; it takes it or leaves it, like one who tries.
        expired = isinstance(chosen, SimTask) and chosen.expired
        past.reserve(chosen.number, self._enabled_by.copy())
        self._open = (step, chosen, self._enabled_by.pop(chosen.number, ()), uid, expired)
        return chosen

    def pick(self, count: int, label: str, share: float) -> int:
        """Every value is a case."""
        step = self._step
        self._step = step + 1
        value = self.decide_pick(step, count)
        if step >= self._known:
            self.past.reserve(-1)
        return value

    def _begin(self) -> None:
        """From here on notes are made. Who can go on by now can do so by no step of which notes are made."""
        self._moments_seen = len(self._moments)
        self._enabled_by = self._pending
        self._waiting = {
            actor.number: (actor, getattr(actor, "waitable", None)) for actor in self._actors if not actor.enabled
        }

    # -- looking back

    def _close(self, sim: SimRuntime, at_the_end: bool) -> None:
        assert self._open is not None
        core = sim.core
        step, actor, enabled_by, lock, expired = self._open
        self._open = None
        assert core.footprints is not None
        touches = core.footprints[step]
        moments = self._moments
        time_passed = not self._explored and len(moments) > self._moments_seen
        if time_passed:
            # What falls due when time passes touches things, on nobody's account.
            touches = touches[: moments.touches[self._moments_seen]]
        footprint = footprint_of(touches)
        if expired and lock and not footprint.get(lock, 0) & ACQUIRES:
            footprint[lock] = footprint.get(lock, 0) | READS  # it saw that the lock was held
        if self._explored:
            footprint[ALL] = WRITES if actor.name == CLOCK_NAME else READS
        cut = at_the_end and core.end is not None and self._cuts(core.end[0], core.until is not None)
        if cut:
            footprint[ALL] = WRITES  # it decides how far the others come
            self.past.cut = step
        self.past.fill(step, footprint, enabled_by, 0 if expired else lock)
        self._look_who_waits(step)
        if not actor.enabled and (not isinstance(actor, SimTask) or actor.alive):
            self._waiting[actor.number] = (actor, getattr(actor, "waitable", None))
        if time_passed or at_the_end:
            self.note_blocked(cut)
            self._moments_seen = len(moments)
            self.past.settle()
            self._enabled_by.clear()

    def _cuts(self, kind: str, until: bool) -> bool:
        """Whether the end of a run is that of its last step, and others might have gone on."""
        if kind == DEADLOCK:
            return self._explored and any(actor.enabled for actor in self._actors)
        return until or kind in (ERROR, PAUSED)

    def _look_who_waits(self, step: int) -> None:
        for number, (actor, before) in list(self._waiting.items()):
            now = getattr(actor, "waitable", None)
            # Who is let go on by a release has the lock to thank for it, and its past has that.
            by_release = isinstance(before, SimLock) and not (self._explored and getattr(actor, "expired", False))
            # The clock can go on when anybody has armed it, so it has nobody in particular to thank.
            if (actor.enabled or now is not before) and not by_release and actor.name != CLOCK_NAME:
                self._enabled_by[number] = (*self._enabled_by.get(number, ()), step)
            if actor.enabled:
                del self._waiting[number]
            elif now is not before:
                self._waiting[number] = (actor, now)

    def fingerprint(self, steps: Sequence[tuple[str, str]]) -> Fingerprint:
        """Of the run as it was. steps: its record."""
        return fingerprint(self.past, [key for key, _ in steps], [label for _, label in steps])
