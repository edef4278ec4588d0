"""A search divided on a dask cluster of two worker processes: the same result, also when one of them is killed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import distributed
import pytest

from coordemu.cli import main
from coordemu.explore import dask_jobs
from coordemu.explore.dask_jobs import DaskError, explore_on_dask, search_piece
from coordemu.explore.jobs import explore_here
from coordemu.explore.ranges import JobsError, Lost, Work
from coordemu.explore.search import SearchResult

Make = Callable[..., Work]


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Two worker processes of one thread each."""
    with (
        # A task may kill one worker, and fails with the second.
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as made,
    ):
        yield made


@pytest.fixture
def address(cluster: distributed.LocalCluster, work: Make, tmp_path: Path) -> str:
    """Of the cluster, whose workers find the subjects of `work`."""

    def find_subjects(path: str) -> None:
        sys.modules.pop("orders_subjects", None)
        sys.path.insert(0, path)

    with distributed.Client(cluster, set_as_default=False) as client:
        client.run(find_subjects, str(tmp_path))
    return str(cluster.scheduler_address)


def test_the_result_is_the_same_whatever_the_division(work: Make, address: str) -> None:
    asked = work(strategy="portfolio")
    told: list[SearchResult] = []
    expected = explore_here(asked)
    assert explore_on_dask(asked, address) == expected
    assert explore_on_dask(asked, address, progress=told.append, size=11) == expected
    assert told[-1] == expected.result
    assert len(told) > 1


def test_a_stop_keeps_what_was_found(work: Make, address: str) -> None:
    seen: list[int] = []

    def look(result: SearchResult) -> None:
        seen.append(result.orders)

    explored = explore_on_dask(work(count=None), address, lambda: bool(seen), look, size=10)
    assert not explored.whole
    assert 10 <= explored.result.orders <= 100
    assert explored.result.found


def test_what_can_not_be_made_is_one_line(work: Make, address: str) -> None:
    with pytest.raises(JobsError, match=r"^orders_subjects:make: no subject is called 'nothing'$"):
        explore_on_dask(work("nothing"), address)
    assert search_piece("0.0", work(), 0, 1) == {
        "error": f"a dask worker has coordemu {dask_jobs.__version__}, this is 0.0"
    }
    with pytest.raises(JobsError, match=r"^a dask worker can't play a piece: no luck today$"):
        explore_on_dask(work("raising"), address)


def test_a_killed_worker_loses_no_orders(work: Make, address: str) -> None:
    """Handed over by the scheduler the first time, by us when that gives up."""
    expected = explore_here(work())
    assert explore_on_dask(work("killing", at=50, times=3), address, size=10).result == expected.result


def test_orders_that_kill_every_time_are_said(work: Make, address: str) -> None:
    explored = explore_on_dask(work("killing", count=40, at=25, times=9), address, size=10)
    assert explored.lost == (Lost(20, 10, "every dask worker that played it died"),)
    assert explored.result.orders == 30
    assert not explored.whole


def test_a_cluster_that_goes_away_keeps_what_was_found(work: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first piece."""
    monkeypatch.setattr(dask_jobs, "CONNECT_LIMIT_S", 0.5)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0", silence_logs=50) as cluster:
        address = str(cluster.scheduler_address)
        seen: list[int] = []

        def look(result: SearchResult) -> None:
            seen.append(result.orders)
            if len(seen) == 1:
                cluster.close()

        explored = explore_on_dask(work(count=None), address, progress=look, size=10)
    assert explored.result.orders >= 10
    assert not explored.whole
    assert explored.broken_off.startswith("the dask cluster has gone: ")


def test_the_command(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The subject is made in the workers, by the laboratory's factory."""
    reports = []
    for extra in ([], ["--dask", address]):
        with pytest.raises(SystemExit) as exit_:
            main(["explore", "small", "--policy", "upstream-before", "--schedules", "60", "--json", "-", *extra])
        assert exit_.value.code == 1
        reports.append(json.loads(capsys.readouterr().out))
        del reports[-1]["machine"]
    assert reports[0]["failures"][0].pop("replay") == reports[1]["failures"][0].pop("replay")
    assert reports[0] == reports[1]


def test_no_scheduler_and_no_dask(work: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_jobs, "CONNECT_LIMIT_S", 0.3)
    for address in ("tcp://127.0.0.1:1", "nonsense:///", "127.0.0.1:x"):
        with pytest.raises(DaskError, match=r"^no dask scheduler at "):
            explore_on_dask(work(), address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DaskError, match=r"^--dask needs dask.distributed: pip install 'coordemu\[dask\]'$"):
        explore_on_dask(work(), "tcp://127.0.0.1:1")
