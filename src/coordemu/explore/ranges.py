"""Ranges: what of a search is given out, what has come back, and what has to be given out again.

Role: the book that every way of dividing a search keeps (`jobs`, `dask_jobs`). The orders of a search are numbered, and
each depends on its number alone, so a piece of the search is a range of numbers. A piece that did not come back, since
its worker died, is given out again before any other; one that has killed two workers is put down as lost and said.

Pieces are cut so that each takes about `PIECE_NS`: long enough that handing it over costs nothing beside it, short
enough that progress is seen, and that little is done twice. How they are cut never shows in the result, since results
are merged by the numbers of the orders.

Thread: one. Upstream: none. Left out: playing orders (`search`), and who plays them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from coordemu.explore.order import Subject
from coordemu.explore.portfolio import SYSTEMATIC
from coordemu.explore.search import SearchResult, merge
from coordemu.runtime.base import NS_PER_MS

PIECE_NS = 400 * NS_PER_MS
FIRST_SIZE = 8
MAX_SIZE = 20_000
MAX_DEATHS = 2
# Pieces lost, after which no more are given out: it is not the orders, it is the subject.
MAX_LOST = 8
# Orders of a systematic search that has no end of its own.
MAX_SYSTEMATIC = 2**40


class JobsError(Exception):
    """The search can't be divided as it was asked for; one line for the user."""


@dataclass(frozen=True, slots=True)
class Work:
    """A search that can be divided.

    subject: what `Subject.describe` gave.  factory: "package.module:function", which makes the subject from that; it
    must be importable where the work is done.  strategy, seed, length: see `portfolio.plan_of`.
    count: how many orders, 0 or more; None: until it is stopped.
    """

    subject: Mapping[str, Any]
    factory: str
    strategy: str
    seed: int
    length: int
    count: int | None = None

    def make_subject(self) -> Subject:
        """The subject. Raises JobsError when there is no such factory, or when it refuses."""
        module, _, name = self.factory.partition(":")
        try:
            factory = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as err:
            raise JobsError(f"no factory {self.factory!r}: {err}") from None
        try:
            subject: Subject = factory(self.subject)
        except (ValueError, KeyError, TypeError) as err:
            raise JobsError(f"{self.factory}: {err}") from None
        return subject

    def ranges(self, workers: int, size: int | None) -> Ranges:
        """A fresh book. A systematic strategy goes through its orders one after the other: they are one piece."""
        if self.strategy in SYSTEMATIC:
            return Ranges(self.count, 1, MAX_SYSTEMATIC if self.count is None else max(1, self.count))
        return Ranges(self.count, workers, size)


@dataclass(frozen=True, slots=True)
class Piece:
    """The orders first .. first + count - 1.  deaths: how many workers it has outlived."""

    first: int
    count: int
    deaths: int = 0

    def __str__(self) -> str:
        return f"orders {self.first} to {self.first + self.count - 1}"


@dataclass(frozen=True, slots=True)
class Lost:
    """Orders that nobody could play to the end, and why."""

    first: int
    count: int
    why: str

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {"first": self.first, "count": self.count, "why": self.why}


@dataclass(frozen=True, slots=True)
class Explored:
    """What came of a divided search.

    result: everything that was found.  whole: whether every order that was asked for was played.
    lost: those that killed their workers.  deaths: how many workers died.  broken_off: why the search could not go on,
    "" when it could.
    """

    result: SearchResult
    whole: bool
    lost: tuple[Lost, ...] = ()
    deaths: int = 0
    broken_off: str = ""


@dataclass(slots=True)
class Ranges:
    """The book of one search.

    count: how many orders, None without end.  workers: how many share them, 1 or more.
    size: of every piece, 1 or more; None: as fits `PIECE_NS`.
    """

    count: int | None
    workers: int = 1
    size: int | None = None
    result: SearchResult = field(default_factory=lambda: merge([]))
    lost: list[Lost] = field(default_factory=list)
    deaths: int = 0
    out: int = 0
    _next: int = 0
    _again: list[Piece] = field(default_factory=list)
    _fitting: int = FIRST_SIZE
    _cut_short: bool = False

    def take(self) -> Piece | None:
        """The next piece, None when all were given out, and when so many were lost that there is no sense in it."""
        if not self.left:
            return None
        if self._again:
            self.out += 1
            return self._again.pop(0)
        size = self.size or self._fitting
        if self.count is not None:
            left = self.count - self._next
            # Towards the end smaller ones, so that all workers end together.
            size = min(size, left) if self.size else min(size, left, max(1, -(-left // (2 * self.workers))))
        piece = Piece(self._next, size)
        self._next += size
        self.out += 1
        return piece

    def came_back(self, piece: Piece, result: SearchResult, took_ns: int) -> None:
        """A piece was played, or, when it was asked to stop, a part of it. took_ns: by its worker's clock, or 0."""
        self.out -= 1
        self.result = merge([self.result, result])
        if result.orders < piece.count:
            self._cut_short = True  # or there are no more orders, which a systematic search finds out
        elif took_ns > 0:
            fitting = piece.count * PIECE_NS // took_ns
            self._fitting = max(1, min(fitting, MAX_SIZE, 4 * self._fitting))

    def died(self, piece: Piece, why: str, deaths: int = 1) -> bool:
        """A worker died over a piece. Whether the piece is given out again; otherwise it is put down as lost."""
        self.out -= 1
        self.deaths += deaths
        if piece.deaths + deaths < MAX_DEATHS:
            self._again.append(Piece(piece.first, piece.count, piece.deaths + deaths))
            return True
        self.lost.append(Lost(piece.first, piece.count, why))
        return False

    @property
    def left(self) -> bool:
        """Whether there is anything to take."""
        if len(self.lost) >= MAX_LOST:
            return False
        return bool(self._again) or self.count is None or self._next < self.count

    @property
    def whole(self) -> bool:
        """Whether all that was asked for was played."""
        all_out = self.count is not None and self._next >= self.count
        return all_out and not (self._again or self.out or self.lost or self._cut_short)

    def explored(self) -> Explored:
        """What there is now."""
        return Explored(self.result, self.whole, tuple(sorted(self.lost, key=_by_first)), self.deaths)


def _by_first(lost: Lost) -> int:
    return lost.first
