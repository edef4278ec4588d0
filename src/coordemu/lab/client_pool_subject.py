"""ClientPoolSubject: a recipe of the client-side pool, as a subject, with the pool's faults that are on.

Role: what makes `coordemu explore pool-<recipe>` work: the recipe's program is the run's main task, and a rule of the
pool that does not hold (`coordemu.pool.invariants`) is the failure. It is named by the letters of the rules, not by the
sentence with its numbers, so that a shrinker keeps to the rule; a deadlock is named by who waits for what (a lost
wake-up is no cycle: the last steps of each chain tell), and any other exception by where it was raised.

Thread: one play at a time. Upstream: none. Left out: smaller recipes; each is as small as its fault allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from coordemu.coord.history import HISTORICAL_FAULTS
from coordemu.explore.order import Failure, Finding, Subject
from coordemu.explore.signature import failure_of, without_numbers
from coordemu.lab.oracles import BROKEN
from coordemu.lab.order_verdict import HEALTHY
from coordemu.lab.scenario import ScenarioError
from coordemu.pool.invariants import InvariantBroken
from coordemu.pool.pool_faults import POOL_FAULTS, UnknownPoolFault, check_pool_faults
from coordemu.pool.pool_recipe_list import POOL_RECIPES, SHOWN
from coordemu.pool.recipe_base import PoolRecipe
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimOutcome

CLIENT_POOL_KIND = "client-pool"
PREFIX = "pool-"
DEADLOCKED = "deadlocked"


@dataclass(frozen=True, slots=True)
class ClientPoolScenario:
    """A recipe by the name that commands have for it. name: PREFIX and the recipe's.  summary: a sentence.  faults:
    those that it shows."""

    name: str
    summary: str
    faults: tuple[str, ...]

    @property
    def recipe(self) -> PoolRecipe:
        """What is played."""
        return POOL_RECIPES[self.name.removeprefix(PREFIX)]


CLIENT_POOL_SCENARIOS: Mapping[str, ClientPoolScenario] = MappingProxyType({
    PREFIX + recipe.name: ClientPoolScenario(
        PREFIX + recipe.name, f"{recipe.sentence[:1].upper()}{recipe.sentence[1:]}.", recipe.faults
    )
    for recipe in POOL_RECIPES.values()
})  # fmt: skip


def get_client_pool_scenario(name: str) -> ClientPoolScenario:
    """The named one. Raises ScenarioError with the nearest name."""
    try:
        return CLIENT_POOL_SCENARIOS[name]
    except KeyError:
        near = get_close_matches(name, CLIENT_POOL_SCENARIOS, n=1, cutoff=0.0)[0]
        raise ScenarioError(f"no recipe of the client pool is called {name!r}; did you mean {near!r}?") from None


def check_recipe_faults(names: Sequence[str]) -> tuple[str, ...]:
    """The names, sorted, each once. Raises UnknownPoolFault, also for a fault that is the coordinator's."""
    for name in names:
        if name in HISTORICAL_FAULTS and name not in POOL_FAULTS:
            raise UnknownPoolFault(f"{name!r} is a fault of the coordinator; a recipe of the client pool has its own")
    return tuple(sorted(check_pool_faults(names)))


def recipe_for(fault: str) -> str:
    """The name of the scenario that shows a fault of the pool; "" for what is none. Thread: any."""
    return next((PREFIX + name for name, shown in SHOWN if shown == fault), "")


class ClientPoolSubject:
    """A recipe, as a subject. recipe: its name, with or without PREFIX; ScenarioError for another.  faults: of the
    pool; UnknownPoolFault for another."""

    def __init__(self, recipe: str, faults: Sequence[str] = ()) -> None:
        self.scenario = get_client_pool_scenario(PREFIX + recipe.removeprefix(PREFIX))
        self.faults = check_recipe_faults(faults)

    @property
    def name(self) -> str:
        """The scenario's, and the faults."""
        return f"{self.scenario.name}, {self.way}"

    @property
    def way(self) -> str:
        """The faults that are on, for a table."""
        return f"with {', '.join(self.faults)}" if self.faults else "mended"

    def describe(self) -> dict[str, Any]:
        """Plain values; `coordemu.lab.subjects.subject_from` makes it again."""
        return {"kind": CLIENT_POOL_KIND, "recipe": self.scenario.recipe.name, "faults": list(self.faults)}

    def play(self, sim: SimRuntime) -> Finding:
        """Run once, and judge. Blocks for as long as that takes."""
        program, faults = self.scenario.recipe.program, frozenset(self.faults)
        outcome = sim.run(lambda: program(sim, faults), name="main")
        failure = _named(failure_of(outcome), outcome)
        return Finding(failure.kind if failure else HEALTHY, failure, outcome, {"steps": outcome.steps})

    def smaller(self) -> Sequence[Subject]:
        """None."""
        return ()

    def __reduce__(self) -> tuple[Any, ...]:
        return ClientPoolSubject, (self.scenario.recipe.name, self.faults)

    def __repr__(self) -> str:
        return f"<ClientPoolSubject {self.name}>"


def _named(failure: Failure | None, outcome: SimOutcome) -> Failure | None:
    """A broken rule by its letters; a deadlock that is no cycle by the ends of its chains; what else the runtime saw as
    it is, under a word that tables have."""
    if failure is None:
        return None
    if failure.kind == DEADLOCKED:
        if len(failure.signature) > 1:
            return failure
        ends = sorted({without_numbers(" > ".join(chain.steps[-2:])) for chain in outcome.chains})
        longest = max(outcome.chains, key=lambda chain: len(chain.steps), default=None)
        return Failure(DEADLOCKED, (DEADLOCKED, *ends), longest.sentence if longest is not None else failure.sentence)
    if isinstance(outcome.error, InvariantBroken):
        return Failure(BROKEN, (BROKEN, *outcome.error.rules), str(outcome.error))
    return Failure(BROKEN, (BROKEN, *failure.signature), failure.sentence)
