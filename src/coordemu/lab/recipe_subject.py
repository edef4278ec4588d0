"""RecipeSubject: a small program with faults that can be switched on, as a subject of a search.

Role: what makes `coordemu explore pool-<recipe>` and `resilience-<recipe>` work: the recipe's program is the run's main
task, and a rule that does not hold is the failure. It is named by the letters of the rules, not by the sentence with
its numbers, so that a shrinker keeps to the rule; a deadlock is named by who waits for what (a lost wake-up is no
cycle: the last steps of each chain tell), and any other exception by where it was raised. A `RecipeBook` is one family
of recipes; each family has a subject of its own, so that a schedule file can say whose order it is.

Thread: one play at a time. Upstream: none. Left out: smaller recipes; each is as small as its fault allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from coordemu.explore.order import Failure, Finding, Subject
from coordemu.explore.signature import failure_of, without_numbers
from coordemu.lab.oracles import BROKEN
from coordemu.lab.order_verdict import HEALTHY
from coordemu.lab.scenario import ScenarioError
from coordemu.runtime.base import Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_outcome import SimOutcome

DEADLOCKED = "deadlocked"


class Recipe(Protocol):
    """A recipe of any family (`PoolRecipe`, `ResilienceRecipe`)."""

    @property
    def name(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def faults(self) -> tuple[str, ...]: ...
    @property
    def program(self) -> Callable[[Runtime, frozenset[str]], None]: ...


@dataclass(frozen=True, slots=True)
class NamedCase:
    """What a command can play by a name. name: with the family's prefix.  summary: a sentence.  faults: those that it
    shows."""

    name: str
    summary: str
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecipeScenario(NamedCase):
    """A recipe by the name that commands have for it, the family's prefix and its own. recipe: what is played."""

    recipe: Recipe


C = TypeVar("C", bound=NamedCase)


class SubjectBook(Generic[C]):
    """A family of cases with faults of their own, for which no option of the coordinator means anything.

    kind: its name in descriptions.  prefix: before the names of its scenarios.  title: what it is, for messages.
    cases: all.  check_faults: the names as a set, or a ValueError with the nearest name.
    """

    def __init__(
        self,
        kind: str,
        prefix: str,
        title: str,
        cases: Iterable[C],
        check_faults: Callable[[Sequence[str]], frozenset[str]],
    ) -> None:
        self.kind = kind
        self.prefix = prefix
        self.title = title
        self._check_faults = check_faults
        self.scenarios: Mapping[str, C] = MappingProxyType({case.name: case for case in cases})

    def scenario(self, name: str) -> C:
        """The named one, with or without the prefix. Raises ScenarioError with the nearest name."""
        full = self.prefix + name.removeprefix(self.prefix)
        try:
            return self.scenarios[full]
        except KeyError:
            near = get_close_matches(full, self.scenarios, n=1, cutoff=0.0)[0]
            raise ScenarioError(f"no recipe of {self.title} is called {full!r}; did you mean {near!r}?") from None

    def faults(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names, sorted, each once. Raises ValueError with the nearest name."""
        return tuple(sorted(self._check_faults(names)))

    def recipe_for(self, fault: str) -> str:
        """The name of the first scenario that shows a fault; "" for what is none of this family's. Thread: any."""
        return next((each.name for each in self.scenarios.values() if fault in each.faults), "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind}, {len(self.scenarios)} recipes>"


class RecipeBook(SubjectBook[RecipeScenario]):
    """A family of recipes. recipes: by name.  The rest as `SubjectBook` has it."""

    def __init__(
        self,
        kind: str,
        prefix: str,
        title: str,
        recipes: Mapping[str, Recipe],
        check_faults: Callable[[Sequence[str]], frozenset[str]],
    ) -> None:
        cases = [
            RecipeScenario(
                prefix + recipe.name, f"{recipe.sentence[:1].upper()}{recipe.sentence[1:]}.", recipe.faults, recipe
            )
            for recipe in recipes.values()
        ]
        super().__init__(kind, prefix, title, cases, check_faults)


class RecipeSubject:
    """A recipe, as a subject. recipe: its name, with or without the prefix; ScenarioError for another.  faults: of the
    family; ValueError for another. A family is a subclass with its BOOK."""

    BOOK: ClassVar[RecipeBook]

    def __init__(self, recipe: str, faults: Sequence[str] = ()) -> None:
        self.scenario = self.BOOK.scenario(recipe)
        self.faults = self.BOOK.faults(faults)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """What `describe` told of. Raises KeyError, ValueError."""
        return cls(str(description["recipe"]), tuple(description.get("faults", ())))

    @classmethod
    def named(cls, name: str, faults: Sequence[str]) -> Self:
        """As the constructor, for families that are made otherwise."""
        return cls(name, faults)

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
        return {"kind": self.BOOK.kind, "recipe": self.scenario.recipe.name, "faults": list(self.faults)}

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
        return type(self), (self.scenario.recipe.name, self.faults)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


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
    rules = getattr(outcome.error, "rules", None)  # InvariantBroken and RuleBroken
    if rules is not None:
        return Failure(BROKEN, (BROKEN, *rules), str(outcome.error))
    return Failure(BROKEN, (BROKEN, *failure.signature), failure.sentence)
