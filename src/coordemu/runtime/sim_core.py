"""SimCore: the scheduler of one simulated run: one OS thread, one step at a time.

Role: every primitive of the simulator is a few lines over `point` (here another actor may go first), `block` (go on
when somebody lets me, or my time is up), `enable` and `disable`. The set of enabled actors is exact: a task that waits
for a held lock is not in it, so there are no steps that achieve nothing, and an empty set with no time limit left is a
deadlock, at once. The control goes from task to task directly; the caller of `run` gets it back only at the end.

A step is recorded when it is chosen, with the label that its actor had announced. Actors that are no tasks (a delivery,
the clock) run on the stack of whoever chose them, outside of any task, where points have no effect.

The end. A run that fails leaves tasks in the middle of their functions: `kill` raises `SimOver` in each, so that they
unwind; whatever they ask of the runtime on their way out refuses by the same exception.

Two things can be switched on for a search. `log` takes what each step touches, as (object's uid, READ, WRITE, ACQUIRE
or RELEASE), so that a search knows which steps commute; `footprints` keeps one such list per step. And between `calm`
and its end the run keeps to one actor until it cannot go on, asks no strategy and records nothing: the way to the point
where a search begins need not be searched. `pick` is for what is neither an order nor the runtime's chance: which
waiter a notification wakes, how much of a delivery is read; the strategy decides, and the record has it as a step.

Thread: one OS thread; a second one must not enter. Upstream: none. Left out: choosing (`sim_schedule`), time
(`sim_clock`). Bounds: `max_steps` steps; the record has a pair for each.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import NoReturn

from greenlet import getcurrent, greenlet

from coordemu.runtime.base import NS_PER_S, Waitable
from coordemu.runtime.sim_clock import Due, SimClock
from coordemu.runtime.sim_enabled import EnabledSet
from coordemu.runtime.sim_greenlets import Play, borrow
from coordemu.runtime.sim_poll import Poller
from coordemu.runtime.sim_schedule import CLOCK_NAME, PICK_KEY, SimDivergence, Step, Strategy
from coordemu.runtime.sim_task import WRITE, Actor, SimOver, SimTask, Touch

log = logging.getLogger("coordemu")

# When all that is left is sleeping loops that look, and nothing has happened for so long, nothing will.
QUIET_LIMIT_NS = 60 * NS_PER_S
# Between two looks for tasks that are stuck while time limits still tick.
STUCK_LOOK_NS = NS_PER_S
# A run has so many spurious wake-ups at most, or a loop around a wait might never end.
SPURIOUS_LIMIT = 50


class SimCore(EnabledSet):
    """The state of a run. strategy: who chooses.  explored: the clock's advance is a choice like any other."""

    def __init__(self, strategy: Strategy, explored: bool, stop_on_error: bool, max_steps: int) -> None:
        super().__init__()
        self.strategy = strategy
        self.clock = SimClock()
        self.steps: list[Step] = []
        self.dead = False
        self.looks = 0  # steps that can't have changed anything
        self.pollers: dict[Poller, None] = {}
        self.find_stuck: Callable[[], bool] = bool
        self.end: tuple[str, BaseException | None] | None = None
        self.until: SimTask | None = None
        self.calm = False
        self.log: list[Touch] | None = None
        self.footprints: list[list[Touch]] | None = None
        # For `footprints`: before these steps (by index) time has passed, and with it every order was settled.
        self.time_passed_at: list[int] = []
        self.chances = 0.0
        self.spurious_left = SPURIOUS_LIMIT
        # A number for an object that steps touch; the same in every run of a schedule.
        self.new_uid: Callable[[], int] = count(1).__next__
        self._stop_on_error = stop_on_error
        self._max_steps = max_steps
        self._choose = strategy.choose
        self._made = 0
        self._calm_steps = 0
        self._passed: Actor | None = None
        self._keys: dict[str, int] = {}
        self._tasks: dict[SimTask, None] = {}
        self._hub: greenlet | None = None
        self._seen_activity = -1
        self._active_ns = self._looked_ns = self.clock.now_ns
        # Whoever calls from outside of all tasks: set-up, tear-down, deliveries.
        self.outside = SimTask(self, "outside", None, ())
        self.current = self.outside
        self._last: Actor = self.outside
        self._clock_actor = self.register(Actor(CLOCK_NAME, self._tick)) if explored else None
        if self._clock_actor is not None:
            self._clock_actor.polling = True
            self._clock_actor.label = "advance"

    # -- what is touched

    def record_footprints(self) -> None:
        """Keep what each step from now on touches."""
        self.footprints = []
        self.log = []

    def pick(self, count: int, label: str, share: float | None = None) -> int:
        """One of 0 .. count - 1, which the strategy chooses and the record keeps. 0 is the plain case.

        share: how often, about, it should be another; None: `SimCore.chances`. With 0, in a calm stretch and outside
        of a run it is 0, and nothing is recorded.
        """
        share = self.chances if share is None else share
        if count < 2 or self.calm or not share or self._hub is None or self.dead:
            return 0
        try:
            chosen = self.strategy.pick(count, label, share)
        except SimDivergence as error:
            self.diverge(error)
        self.steps.append((PICK_KEY, f"{label}: {chosen} of {count}"))
        if self.footprints is not None:
            self.footprints.append([])
        return chosen

    # -- actors

    def register(self, actor: Actor) -> Actor:
        """Give an actor its number and a key that no other has."""
        actor.number = self._made
        self._made += 1
        again = self._keys.get(actor.name, 0) + 1
        self._keys[actor.name] = again
        if again > 1:
            actor.key = f"{actor.name}~{again}"
        self.strategy.born(actor)
        return actor

    def spawn(self, target: Callable[..., object], args: tuple[object, ...], name: str) -> SimTask:
        """A task that can go on from now."""
        task = SimTask(self, name, target, args)
        self.register(task)
        task.label = "start"
        self._tasks[task] = None
        self.point(f"spawn {task.key}")
        if self.log is not None:
            self.log.append((task.uid, WRITE))
        self.enable(task)
        return task

    def tasks(self) -> Sequence[SimTask]:
        """Those that have not ended, in the order of their making."""
        return list(self._tasks)

    @property
    def activity(self) -> int:
        """How many steps may have changed something."""
        return len(self.steps) + self._calm_steps - self.looks

    # -- what primitives are made of

    def point(self, label: str) -> None:
        """A schedule point before an operation that can be done now. Nothing outside of tasks. Raises SimOver."""
        task = self.current
        if task is not self.outside:
            if self.calm and task.enabled and not self.dead:
                return
            task.label = label
            # From here on as `_give_up_control`: a call less for what is done most.
            if self.dead:
                raise SimOver
            chosen = self._next()
            if chosen is not task:
                if chosen is not None and chosen.greenlet is not None:
                    chosen.greenlet.switch()
                else:
                    self._go(chosen)
                if self.dead:
                    raise SimOver

    def give_way(self, label: str) -> None:
        """A schedule point of a task that has nothing urgent."""
        task = self.current
        if task is not self.outside:
            if not self.calm:
                self.strategy.gave_way(task)
            self._passed = task
            task.label = label
            self._give_up_control(task)

    def block(self, label: str, waitable: Waitable | None, timeout_ns: int | None = None) -> SimTask:
        """Wait until `enable` is called for the task, or time is up (`expired`). Returns the task.

        waitable: what the wait-for graph shows.  Raises RuntimeError outside of tasks, SimOver when the run ends.
        """
        task = self.current
        if task is self.outside:
            raise RuntimeError(f"{label!r} would block, outside of any simulated task")
        task.waitable = waitable
        task.since_ns = self.clock.now_ns
        task.granted = task.expired = False
        task.label = label
        self.disable(task)
        due = None if timeout_ns is None else self.arm_expiry(task, timeout_ns)
        self._give_up_control(task)
        if due is not None:
            self.clock.cancel(due)
        task.waitable = None
        task.deadline_ns = None
        return task

    def begin_wait(self, task: SimTask, waitable: Waitable | None) -> None:
        """From now on the task waits, unless it is enabled."""
        task.waitable = waitable
        task.since_ns = self.clock.now_ns
        task.granted = task.expired = False

    def arm_expiry(self, task: SimTask, timeout_ns: int) -> Due:
        """Have the task's time run out, which enables it."""

        def expire() -> None:
            task.expired = True
            self.enable(task)

        task.deadline_ns = self.clock.now_ns + timeout_ns
        return self.arm(task.deadline_ns, expire)

    def grant(self, task: SimTask) -> None:
        """What it waits for is its own now."""
        task.granted = True
        self.enable(task)

    def arm(self, at_ns: int, call: Callable[[], None], soft: bool = False) -> Due:
        """An entry of the clock's."""
        if self._clock_actor is not None:
            self.enable(self._clock_actor)
        return self.clock.arm(at_ns, call, soft)

    # -- who goes next

    def _give_up_control(self, task: SimTask) -> None:
        if self.dead:
            raise SimOver
        chosen = self._next()
        if chosen is not task:
            self._go(chosen)
            if self.dead:
                raise SimOver

    def _next(self) -> SimTask | None:
        """Choose and record; None when the run is over or paused."""
        enabled = self._enabled
        while True:
            if not enabled:
                if not self._pass_time():
                    return None
                continue
            if self.calm:
                chosen = self._last = self._run_on()
                self._calm_steps += 1
                taken = self._calm_steps
            else:
                try:
                    chosen = self._last = self._choose(enabled, self._last)
                except SimDivergence as error:
                    self.end = ("diverged", error)
                    return None
                steps = self.steps
                steps.append((chosen.key, chosen.label))
                taken = len(steps)
                if self.footprints is not None:
                    self.log = []
                    self.footprints.append(self.log)
            if chosen.polling:
                self.looks += 1
            if taken >= self._max_steps:
                self.end = ("step limit", None)
                return None
            task = chosen.task
            if task is not None:
                self.current = task
                return task
            self.current = self.outside
            chosen.act()
            if self.end is not None:
                return None

    def _run_on(self) -> Actor:
        """The calm choice: the last actor, unless it gave way or cannot; then the next by number."""
        passed, self._passed = self._passed, None
        last = self._last
        if last.enabled and last is not passed and last is not self._clock_actor:
            return last
        enabled = self._enabled
        chosen = enabled[bisect_right(self._numbers, last.number) % len(enabled)]
        # The clock, whose number is the lowest, goes only when nobody else can.
        return enabled[1] if chosen is self._clock_actor and len(enabled) > 1 else chosen

    def _go(self, chosen: SimTask | None) -> None:
        if chosen is None:
            self.current = self.outside
            assert self._hub is not None
            self._hub.switch()
        elif chosen.greenlet is not None:
            chosen.greenlet.switch()
        else:
            chosen.greenlet = borrow()
            chosen.greenlet.switch(lambda: self._play(chosen))

    def _play(self, task: SimTask) -> greenlet | Play:
        """Run a task on a borrowed stack; returns what that plays then, or where the control goes."""
        assert task.target is not None
        try:
            task.target(*task.args)
        except SimOver:
            task.alive = False
        except BaseException as raised:
            task.error = raised
            if not self._stop_on_error:  # otherwise the outcome has it, and a search would drown in log lines
                log.error("task %s ended with %r", task.name, raised, exc_info=raised)
        task.alive = False
        task.greenlet = None
        self._tasks.pop(task, None)
        assert self._hub is not None
        if self.dead:
            return self._hub
        self.disable(task)
        if self.log is not None:
            self.log.append((task.uid, WRITE))
        for joiner in task.joiners:
            self.enable(joiner)
        task.joiners = []
        if task.error is not None and self._stop_on_error:
            self.end = ("error", task.error)
        elif task is self.until:
            self.end = ("paused" if self._tasks else "done", None)
        chosen = None
        if self.end is None:
            with suppress(SimOver):  # from a replay that does not fit, in a step of no task
                chosen = self._next()
        if chosen is None:
            self.current = self.outside
            return self._hub
        stack = chosen.greenlet
        if stack is None:
            chosen.greenlet = getcurrent()
            return lambda: self._play(chosen)
        return stack

    def diverge(self, error: SimDivergence) -> NoReturn:
        """End the run in the middle of a step: a replay does not fit. Raises SimOver."""
        self.end = ("diverged", error)
        self.dead = True
        raise SimOver

    # -- time

    def _pass_time(self) -> bool:
        """Go to the next moment at which something is due. False when the run is over instead."""
        clock = self.clock
        if not self._tasks:
            self.end = ("done", None)
            return False
        if self.activity != self._seen_activity:
            self._seen_activity = self.activity
            self._active_ns = clock.now_ns
            for poller in self.pollers:
                poller.look_soon()
        at_ns = clock.next_ns()
        if any(actor is not self._clock_actor for actor in self._enabled):
            if at_ns is None:  # what was due was cancelled, and others can go on
                return True
        elif at_ns is None or (not clock.hard and at_ns - self._active_ns > QUIET_LIMIT_NS):
            self.end = ("deadlock", None)
            return False
        assert at_ns is not None
        self.current = self.outside
        if at_ns - self._looked_ns >= STUCK_LOOK_NS:
            self._looked_ns = at_ns
            if self.find_stuck():
                self.end = ("deadlock", None)
                return False
        if self.footprints is not None:
            self.time_passed_at.append(len(self.steps))
        clock.advance()
        return True

    def _tick(self) -> None:
        """The explored clock's step. It is polling: that time passes is no activity."""
        actor = self._clock_actor
        assert actor is not None
        if self._pass_time():
            self.strategy.gave_way(actor)
            if self.clock.next_ns() is None:
                self.disable(actor)

    # -- from outside

    def run(self, until: SimTask | None) -> tuple[str, BaseException | None]:
        """Take steps until the run ends, or `until` has ended. Returns the kind of the end, and its error.

        Raises RuntimeError from inside a task, or when the run is over.
        """
        if self.current is not self.outside or self._hub is not None:
            raise RuntimeError("a simulated run cannot be started from inside one")
        if self.dead:
            raise RuntimeError("this run is over; make a new runtime")
        self._begin(until)
        try:
            if until is not None and not until.alive:
                return "paused" if self._tasks else "done", None
            with suppress(SimOver):  # from a replay that does not fit, in a step of no task
                chosen = self._next()
                if chosen is not None:
                    self._go(chosen)
        finally:
            self._hub = None
            self.current = self.outside
        assert self.end is not None
        return self.end

    def _begin(self, until: SimTask | None) -> None:
        self.end = None
        self.until = until
        self._hub = getcurrent()

    def kill(self) -> None:
        """Take every task off its stack; the runtime refuses from now on."""
        self.dead = True
        self._hub = getcurrent()
        for task in list(self._tasks):
            stack = task.greenlet
            for _ in range(100):
                if stack is None or not task.alive:
                    break
                self.current = task
                stack.throw(SimOver)
            task.alive = False
        self._hub = None
        self.current = self.outside
        self._tasks.clear()
        self._enabled.clear()
        self._numbers.clear()

    def __repr__(self) -> str:
        return f"<SimCore {len(self.steps)} steps, {len(self._tasks)} tasks, {len(self._enabled)} can go on>"
