"""Name check: names that somebody gave, against those that there are; who is wrong is told the nearest one.

Role: coord, pool and resilience each have faults that are switched on by their names, and each an error of its own for
a name that is none. What is done with the names is the same in all.

Thread: any. Upstream: none. Left out: names that are near enough to be taken for another.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def check_names(names: Collection[str], known: Collection[str], what: str, error: type[Exception]) -> frozenset[str]:
    """The names as a set.

    known: one or more.  what: a known one is called, as in "fault of the pool".  error: raised, with a sentence, for a
    name that is not in `known`, and for one string instead of a set. Thread: any.
    """
    if isinstance(names, str):
        raise error(f"faults are a set of names, not the one word {names!r}")
    for name in names:
        if name not in known:
            # However far off: one of a few.
            near = get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise error(f"no {what} is called {name!r}; did you mean {near!r}?")
    return frozenset(names)
