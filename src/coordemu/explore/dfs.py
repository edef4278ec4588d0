"""Dfs: every order of a small program, or all those with few preemptions, one after the other.

Role: the search without any idea, against which the one with reduction (`dpor`) is checked; and, with a bound, a search
for bugs whose finds are simple: a *preemption* takes the turn from an actor that could go on and did not give way, and
most bugs need one or two. With a bound of k all orders without preemption come first, then those with one, up to k; an
order comes once.

The search keeps the choices of one run: each run starts anew, takes the choices of the one before up to the last place
where another is left, and goes on without preemption. With a bound of k, what has fewer preemptions is played again on
the way to each level, which costs little where each level has many times the orders of the one before.

Thread: any, one search at a time per OS thread. Upstream: none. Left out: reduction. Bounds: memory for one run; a
program that may poll for ever has no end of orders, see `limit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordemu.explore.dependency import Past
from coordemu.explore.exhaust_result import ExhaustResult, OnClass, OnOrder, Progress, longest_run
from coordemu.explore.order import OrderPlan, Played, Subject, play
from coordemu.explore.watcher import Watcher
from coordemu.runtime.sim_outcome import DIVERGED
from coordemu.runtime.sim_schedule import SimDivergence
from coordemu.runtime.sim_task import Actor

__all__ = ["ExhaustResult", "search_all"]


class _Place:
    """Where a choice was made. chosen: the number of an actor, or the value of a pick.  left: what is still to be
    tried.  costs: whether that is a preemption.  spent: preemptions before."""

    __slots__ = ("chosen", "chosen_costs", "is_pick", "left", "left_costs", "spent")

    def __init__(self, chosen: int, left: list[int], left_costs: bool, spent: int, is_pick: bool = False) -> None:
        self.is_pick = is_pick
        self.chosen = chosen
        self.chosen_costs = False
        self.left = left
        self.left_costs = left_costs
        self.spent = spent


class _Level:
    """One pass over all orders with at most `bound` preemptions (None: any number). `cut` says whether there are
    orders beyond."""

    def __init__(self, bound: int | None) -> None:
        self.bound = bound
        self.places: list[_Place] = []
        self.cut = False
        # For who watches: the notes of the last run, and the first place that is not as it was then.
        self.past: Past | None = None
        self.first_new = 0

    def actor_at(self, step: int, enabled: Sequence[Actor], plain: Actor, interrupts: bool) -> int:
        """Who goes at a step, by number. plain: who goes if nothing says otherwise.  interrupts: whether any other
        than that is a preemption."""
        if step < len(self.places):
            return self.places[step].chosen
        spent = self._spent()
        left = [actor.number for actor in reversed(enabled) if actor is not plain]
        if left and interrupts and self.bound is not None and spent >= self.bound:
            self.cut = True
            left = []
        self.places.append(_Place(plain.number, left, interrupts, spent))
        return plain.number

    def pick_at(self, step: int, count: int) -> int:
        """What is picked at a step."""
        if step < len(self.places):
            return self.places[step].chosen
        self.places.append(_Place(0, list(range(count - 1, 0, -1)), False, self._spent(), True))
        return 0

    def _spent(self) -> int:
        if not self.places:
            return 0
        last = self.places[-1]
        return last.spent + last.chosen_costs

    @property
    def preemptions(self) -> int:
        """Of the run that was played last."""
        return self._spent()

    def next(self) -> bool:
        """Go on to the next order; False when there is none."""
        places = self.places
        while places and not places[-1].left:
            places.pop()
        if not places:
            return False
        last = places[-1]
        last.chosen = last.left.pop()
        last.chosen_costs = last.left_costs
        self.first_new = len(places) - 1
        while places[self.first_new].is_pick:  # what is picked changes the step that it is in
            self.first_new -= 1
        return True


class _Follow:
    """One run of a level, without notes."""

    name = "systematic"

    def __init__(self, level: _Level) -> None:
        self._level = level
        self._step = 0
        self._passed: Actor | None = None

    def born(self, actor: Actor) -> None:
        """Nothing to note."""

    def gave_way(self, actor: Actor) -> None:
        """To choose another after it interrupts nobody."""
        self._passed = actor

    def choose(self, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the level says."""
        step = self._step
        self._step += 1
        free = last.enabled and last is not self._passed
        plain = last if free else next((actor for actor in enabled if actor.number > last.number), enabled[0])
        self._passed = None
        number = self._level.actor_at(step, enabled, plain, free)
        return plain if number == plain.number else _named(number, step, enabled)

    def pick(self, count: int, label: str, share: float) -> int:
        """As the level says."""
        self._step += 1
        return self._level.pick_at(self._step - 1, count)


class _Watched(Watcher):
    """One run of a level, with notes."""

    def __init__(self, level: _Level) -> None:
        super().__init__(level.past, level.first_new)
        self._level = level
        level.past = self.past

    def decide(self, step: int, enabled: Sequence[Actor], last: Actor) -> Actor:
        """As the level says."""
        plain = self.run_on(enabled, last)
        number = self._level.actor_at(step, enabled, plain, self.free_to_go_on(last))
        return _named(number, step, enabled)

    def decide_pick(self, step: int, count: int) -> int:
        """As the level says."""
        return self._level.pick_at(step, count)


def _named(number: int, step: int, enabled: Sequence[Actor]) -> Actor:
    for actor in enabled:
        if actor.number == number:
            return actor
    raise SimDivergence(step + 1, "the program went another way than before: it is not repeatable")


def search_all(
    subject: Subject,
    plan: OrderPlan | None = None,
    preemptions: int | None = None,
    limit: int | None = None,
    on_order: OnOrder | None = None,
    stop: Callable[[], bool] | None = None,
    stop_at_first: bool = False,
    on_class: OnClass | None = None,
) -> ExhaustResult:
    """Play every order of a subject.

    plan: its strategy is not used; on the explored clock the clock is an actor like others.  preemptions: 0 or more,
    the most that an order has; None for all orders, not sorted.  limit: of the runs, None for none.  on_order: told of
    each order; on_class: of its class too.  stop: asked before each run whether to end.
    stop_at_first: end with the first failure.
    The result is complete when every order within the bound was seen and none had to be cut for its length.
    Raises ValueError outside of the bounds, RuntimeError for a program that is not repeatable.
    """
    plan = plan or OrderPlan()
    if preemptions is not None and preemptions < 0:
        raise ValueError(f"{preemptions} preemptions")
    with Progress(limit, on_order, stop, stop_at_first) as progress:
        max_steps = longest_run(plan.length)
        for bound in [None] if preemptions is None else range(preemptions + 1):
            level = _Level(bound)
            while progress.may_run():
                played, watched = _play(subject, plan, level, max_steps, on_class is not None)
                ended = progress.ran(played)
                if ended and (not bound or level.preemptions == bound):  # the others have been counted
                    if on_class is not None and watched is not None:
                        on_class(played, watched.fingerprint(played.schedule.steps))
                    if progress.count(played):
                        return progress.result()
                if not level.next():
                    break
            else:
                break
            if not level.cut:
                break
    return progress.result()


def _play(
    subject: Subject, plan: OrderPlan, level: _Level, max_steps: int, watch: bool
) -> tuple[Played, Watcher | None]:
    watched = _Watched(level) if watch else None
    if watched is None:
        played = play(subject, plan, _Follow(level), max_steps=max_steps)
    else:
        played = play(subject, plan, watched, footprints=True, max_steps=max_steps, prepare=watched.attach)
    if played.outcome.kind == DIVERGED:
        raise RuntimeError(str(played.outcome.error))
    return played, watched
