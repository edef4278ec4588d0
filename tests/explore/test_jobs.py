"""A search divided between processes: the same result whatever the division, and nothing lost when a worker dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from coordemu.explore.jobs import explore_here, explore_in_processes
from coordemu.explore.order import Subject
from coordemu.explore.ranges import Explored, JobsError, Lost, Piece, Ranges, Work
from coordemu.explore.search import SearchResult, length_of, search_range

Make = Callable[..., Work]


def workers() -> list[psutil.Process]:
    """Of this process; other tests may have children of other kinds."""
    return [child for child in psutil.Process().children() if "coordemu.explore.worker_main" in child.cmdline()]


def whole(work: Work) -> SearchResult:
    """The same search as one range."""
    assert work.count is not None
    return search_range(work.make_subject(), work.strategy, work.seed, 0, work.count, work.length)


def test_the_result_is_the_same_whatever_the_division(work: Make) -> None:
    asked = work(strategy="portfolio")
    expected = whole(asked)
    assert {found.failure.kind for found in expected.found} == {"deadlocked", "error"}
    assert 0 < expected.verdicts["failed"] < expected.orders
    told: list[SearchResult] = []
    for explored in (
        explore_here(asked),
        explore_here(asked, size=7, progress=told.append),
        explore_here(asked, asked.make_subject(), size=1000),
        explore_in_processes(asked, 1),
        explore_in_processes(asked, 2, size=13, progress=told.append),
    ):
        assert explored == Explored(expected, whole=True)
    assert told[-1] == expected
    assert [result.orders for result in told[:3]] == [7, 14, 21]


def test_a_systematic_search_is_one_piece(work: Make) -> None:
    asked = work(strategy="dfs", count=30)
    assert explore_here(asked, size=3).result == whole(asked) == explore_in_processes(asked, 2).result


def test_a_worker_that_dies_loses_no_orders(work: Make) -> None:
    expected = whole(work())
    explored = explore_in_processes(work("killing", at=50, times=1), 2, size=10)
    assert explored == Explored(expected, whole=True, deaths=1)


def test_orders_that_kill_twice_are_said(work: Make) -> None:
    explored = explore_in_processes(work("killing", count=40, at=25, times=9), 2, size=10)
    assert explored.lost == (Lost(20, 10, "a worker was killed by SIGKILL"),)
    assert explored.deaths == 2
    assert not explored.whole
    assert explored.result.orders == 30


def test_what_a_subject_prints_does_no_harm(work: Make) -> None:
    assert explore_in_processes(work("chatting", count=20), 1).result == whole(work(count=20))


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_stop_keeps_what_was_found(work: Make, jobs: int) -> None:
    """Without end, until enough was seen."""
    asked = work(count=None)
    seen: list[int] = []

    def stop() -> bool:
        return bool(seen) and seen[-1] >= 30

    def look(result: SearchResult) -> None:
        seen.append(result.orders)

    if jobs:
        explored = explore_in_processes(asked, jobs, stop, look, size=5)
    else:
        explored = explore_here(asked, None, stop, look, size=5)
    assert not explored.whole
    assert explored.lost == ()
    assert 30 <= explored.result.orders <= 30 + 5 * 4
    assert explored.result.found[0].number == whole(work()).found[0].number
    assert workers() == []


def test_an_order_that_never_ends_does_not_hold_up_a_stop(work: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordemu.explore.jobs.LAST_ORDER_S", 0.2)
    seen: list[int] = []
    asked = work("hanging", count=40, at=3)
    explored = explore_in_processes(asked, 2, lambda: seen[-1:] == [35], lambda result: seen.append(result.orders), 5)
    assert explored.result.orders == 35
    assert not explored.whole
    assert workers() == []


def test_an_exception_in_the_middle_leaves_no_process(work: Make) -> None:
    def interrupt(result: SearchResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore_in_processes(work(count=None), 2, progress=interrupt)
    assert workers() == []


def test_workers_end_with_their_parent(
    work: Make, tmp_path: Path, eventually: Callable[..., Any], footprint: Any
) -> None:
    """Whose parent is killed while they play an order that never ends."""
    asked = work("hanging")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from coordemu.explore.jobs import explore_in_processes\n"
        "from coordemu.explore.ranges import Work\n"
        f"explore_in_processes({asked!r}, 2)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        begun = eventually(lambda: len(found := footprint.processes("worker_main")) == 2 and found)
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs(begun, 10)[1] == []


def test_what_can_not_be_divided_is_one_line(work: Make) -> None:
    with pytest.raises(JobsError, match=r"^orders_subjects:make: no subject is called 'nothing'$"):
        explore_in_processes(work("nothing"), 2)
    with pytest.raises(JobsError, match=r"^orders_subjects:make: no subject is called 'nothing'$"):
        explore_here(work("nothing"))
    with pytest.raises(JobsError, match=r"^no factory 'nowhere:make': No module named 'nowhere'$"):
        explore_in_processes(Work({}, "nowhere:make", "random", 0, 10, 1), 1)
    with pytest.raises(JobsError, match=r"^no factory 'os:nothing': "):
        explore_here(Work({}, "os:nothing", "random", 0, 10, 1))
    with pytest.raises(JobsError, match=r"^no strategy is called 'luck'"):
        explore_in_processes(work(strategy="luck"), 1)
    with pytest.raises(JobsError, match=r"^a worker ended with code 1: this one leaves$"):
        explore_in_processes(work("leaving"), 2)
    for jobs in (0, 257):
        with pytest.raises(ValueError, match=rf"^jobs {jobs} is not within 1..256$"):
            explore_in_processes(work(), jobs)
    assert workers() == []


def test_a_factory_makes_subjects_that_describe_themselves(work: Make) -> None:
    asked = work()
    subject: Subject = asked.make_subject()
    assert subject.describe() == asked.subject
    assert length_of(subject) > 4


# ---- the book


def some(orders: int) -> SearchResult:
    return SearchResult(orders, orders, {"passed": orders})


def test_every_order_is_given_out_once() -> None:
    ranges = Ranges(1000, workers=3)
    numbers: list[int] = []
    while (piece := ranges.take()) is not None:
        numbers += range(piece.first, piece.first + piece.count)
        ranges.came_back(piece, some(piece.count), 1_000_000)
    assert numbers == list(range(1000))
    assert ranges.whole
    assert ranges.result.orders == 1000


def test_pieces_grow_to_what_fits_and_shrink_towards_the_end() -> None:
    ranges = Ranges(10_000, workers=2)
    sizes = []
    while (piece := ranges.take()) is not None:
        sizes.append(piece.count)
        ranges.came_back(piece, some(piece.count), piece.count * 500_000)  # half a millisecond each
    assert sizes[:5] == [8, 32, 128, 512, 800]
    assert max(sizes) == 800
    assert sizes[-1] == 1
    slow = Ranges(None)
    for _ in range(3):
        piece = slow.take()
        assert piece is not None
        slow.came_back(piece, some(piece.count), piece.count * 10**9)
    assert slow.take() == Piece(10, 1)


def test_what_died_comes_first_and_only_once_more() -> None:
    ranges = Ranges(30, size=10)
    first, second = ranges.take(), ranges.take()
    assert first is not None
    assert second is not None
    assert ranges.died(first, "killed")
    again = ranges.take()
    assert again == Piece(0, 10, deaths=1)
    assert str(again) == "orders 0 to 9"
    assert not ranges.died(again, "killed again")
    ranges.came_back(second, some(10), 0)
    last = ranges.take()
    assert last == Piece(20, 10)
    ranges.came_back(last, some(10), 0)
    assert not ranges.left
    explored = ranges.explored()
    assert explored == Explored(some(20), whole=False, lost=(Lost(0, 10, "killed again"),), deaths=2)
    assert explored.lost[0].to_json() == {"first": 0, "count": 10, "why": "killed again"}


def test_a_subject_that_kills_everybody_is_given_up() -> None:
    ranges = Ranges(None, size=1)
    for number in range(16):
        piece = ranges.take()
        assert piece == Piece(number // 2, 1, deaths=number % 2)
        ranges.died(piece, "killed")
    assert ranges.take() is None
    assert len(ranges.explored().lost) == 8


def test_no_orders_at_all() -> None:
    ranges = Ranges(0)
    assert ranges.take() is None
    assert ranges.explored() == Explored(SearchResult(), whole=True)
