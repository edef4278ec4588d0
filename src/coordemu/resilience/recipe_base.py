"""ResilienceRecipe: a small program that shows one fault in some order of its tasks, and none when it is mended.

Role: what searches play, on the simulator, and what the tests run on threads too. A recipe sets up as little as it
needs, lets a few tasks run (`Crew` of the pool's recipes), and raises `RuleBroken` with the letters of the rules that
do not hold. A wait that nobody ends has no deadline in a recipe, so that a lost wake-up is a deadlock, which the
simulator sees by itself.

Thread: the recipe's main task; it spawns the others and waits for them. Upstream: `coordemu.pool.recipe_base`, which
does the same for the pool. Left out: load; the backfill scenario has that. Bounds: two to five tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordemu.pool.recipe_base import Crew
from coordemu.runtime.base import Runtime

__all__ = ["Crew", "Program", "ResilienceRecipe", "RuleBroken", "demand", "demand_all"]

Program = Callable[[Runtime, frozenset[str]], None]


@dataclass(frozen=True, slots=True)
class ResilienceRecipe:
    """name: for commands.  sentence: what its tasks do.  faults: those that it shows, each by itself.  program: called
    with a runtime and the faults that are on; raises RuleBroken (or what a task raised) when a rule is broken."""

    name: str
    sentence: str
    faults: tuple[str, ...]
    program: Program


class RuleBroken(AssertionError):
    """Rules that do not hold. wrong: sentences, each after its rule's letters; `rules` has the letters alone, sorted,
    each once."""

    def __init__(self, whose: str, wrong: Sequence[str]) -> None:
        super().__init__(f"{whose}: " + "; ".join(wrong))
        self.rules = tuple(sorted({sentence.split(" ")[0] for sentence in wrong}))


def demand(rule: str, holds: bool, sentence: str, whose: str = "recipe") -> None:
    """Raise RuleBroken when it does not hold. rule: the letters.  sentence: what is wrong then. Thread: any."""
    if not holds:
        raise RuleBroken(whose, [f"{rule} {sentence}"])


def demand_all(whose: str, wrong: Sequence[str]) -> None:
    """Raise RuleBroken for all the sentences (each begins with its rule's letters), nothing when there are none.
    Thread: any."""
    if wrong:
        raise RuleBroken(whose, wrong)
