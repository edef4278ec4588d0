"""A recipe of the client pool as a subject: made again from plain values, searched, shrunk, saved, replayed, shared."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from coordemu.cli import main
from coordemu.coord.history import HISTORICAL_FAULTS
from coordemu.explore.order import Failure, OrderPlan, play
from coordemu.explore.order_search import OrderSearch
from coordemu.explore.replay import difference, replay
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.explore.search import length_of, search_range
from coordemu.explore.shrink import shrink
from coordemu.lab.client_pool_subject import CLIENT_POOL, PREFIX, ClientPoolSubject
from coordemu.lab.order_scenario import ORDER_SCENARIOS
from coordemu.lab.scenario import ScenarioError
from coordemu.lab.subjects import subject_from
from coordemu.lab.thpool_subject import THPOOL_SCENARIOS
from coordemu.pool.pool_faults import POOL_FAULTS, UnknownPoolFault
from coordemu.pool.pool_recipe_list import POOL_RECIPES
from coordemu.pool.recipe_base import PoolRecipe
from coordemu.runtime.sim_schedule import ScheduleError

LOST_WAKE = ClientPoolSubject("reauth-vs-put", ("no-recheck",))
ROLLBACK = ClientPoolSubject("pool-handoff-rollback", ("handoff-rollback",))


def first_failure(subject: ClientPoolSubject, orders: int = 500) -> Failure:
    found = search_range(subject, "portfolio", 1, 0, orders, length_of(subject), stop_at_first=True).found
    return found[0].failure


def test_a_description_makes_the_same_again() -> None:
    again = subject_from(json.loads(json.dumps(LOST_WAKE.describe())))
    assert again.describe() == LOST_WAKE.describe()
    assert again.name == LOST_WAKE.name == "pool-reauth-vs-put, with no-recheck"
    assert pickle.loads(pickle.dumps(LOST_WAKE)).describe() == LOST_WAKE.describe()
    plan = OrderPlan("pos", 3, length=40)
    assert play(again, plan).schedule == play(LOST_WAKE, plan).schedule
    assert not again.smaller()
    assert ClientPoolSubject("churn").name == "pool-churn, mended"


def test_the_names_are_nobody_elses() -> None:
    assert set(CLIENT_POOL.scenarios) == {PREFIX + name for name in POOL_RECIPES}
    assert not set(CLIENT_POOL.scenarios) & (set(ORDER_SCENARIOS) | set(THPOOL_SCENARIOS))
    assert not set(POOL_FAULTS) & set(HISTORICAL_FAULTS)


def test_what_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'pool-late-comer'"):
        CLIENT_POOL.scenario("pool-late-comers")
    with pytest.raises(UnknownPoolFault, match="did you mean 'leapfrog'"):
        ClientPoolSubject("leapfrog", ("leapfrg",))
    with pytest.raises(UnknownPoolFault, match="'sync-reduce' is a fault of the coordinator"):
        ClientPoolSubject("leapfrog", ("sync-reduce",))
    for change, said in (({"recipe": "cake"}, "did you mean"), ({"faults": ["cake"]}, "no fault of the pool")):
        with pytest.raises(ScheduleError, match=said) as caught:
            subject_from({**LOST_WAKE.describe(), **change})
        assert "\n" not in str(caught.value)
    with pytest.raises(ScheduleError, match="has no 'recipe'"):
        subject_from({"kind": "client-pool"})


def test_a_failure_is_named_by_its_rules_and_a_lost_wake_up_by_who_sleeps() -> None:
    assert first_failure(ROLLBACK).signature == ("broken", "Q5")
    lost = first_failure(LOST_WAKE)
    assert lost.kind == "deadlocked"
    assert lost.sentence.startswith("main waits for end of 'worker'")
    assert any("conn to be" in step for step in lost.signature[1:])
    overfull = first_failure(ClientPoolSubject("abandoned-dial", ("double-free-turn",)))
    assert overfull.signature == ("broken", "error", "TurnsOverfull", "_give_locked")


def test_a_find_is_shrunk_saved_and_shown_again(tmp_path: Path) -> None:
    subject = ROLLBACK
    found = search_range(subject, "portfolio", 1, 0, 500, length_of(subject), stop_at_first=True).found[0]
    less = shrink(subject, found.plan, found.schedule, found.failure)
    assert less.switches <= less.switches_before
    assert less.preemptions == 1
    file = ScheduleFile(less.subject.describe(), less.plan, found.verdict, less.failure, less.schedule)
    loaded = ScheduleFile.load(file.save(tmp_path / "order.json"))
    played = replay(subject_from(loaded.subject), loaded)
    assert difference(loaded, played) == ""
    assert played.failure == less.failure
    # The same order, mended.
    mended = replay(ClientPoolSubject("handoff-rollback"), loaded)
    assert mended.failure is None


def test_all_orders_within_a_bound_and_all_classes() -> None:
    factory = "coordemu.lab.subjects:subject_from"
    bounded = OrderSearch(factory, "dfs", count=None, exhaustive=True, preemptions=1)
    wider = OrderSearch(factory, "dfs", count=None, exhaustive=True, preemptions=2)
    classes = OrderSearch(factory, "dpor", count=None, exhaustive=True)
    mended = ClientPoolSubject("handoff-rollback")
    results = [search.carry_out(mended, lambda: False, lambda *_: None) for search in (bounded, wider, classes)]
    for searched in results:
        assert searched.complete
        assert set(searched.result.verdicts) == {"healthy"}
    assert results[0].runs < results[1].runs
    # One preemption is what the fault needs.
    none = OrderSearch(factory, "dfs", count=None, exhaustive=True, preemptions=0)
    assert not none.carry_out(ROLLBACK, lambda: False, lambda *_: None).result.found
    assert bounded.carry_out(ROLLBACK, lambda: False, lambda *_: None).result.found


def test_orders_are_shared_between_processes_with_the_same_result() -> None:
    factory = "coordemu.lab.subjects:subject_from"
    alone, shared = (
        OrderSearch(factory, seed=4, count=80, jobs=jobs).carry_out(ROLLBACK, lambda: False, lambda *_: None)
        for jobs in (1, 2)
    )
    assert alone.result == shared.result
    assert alone.result.found


def command(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def test_the_command_finds_saves_and_replays(tmp_path: Path) -> None:
    done = command(
        "explore", "pool-turn-waiter", "--fault", "turn-wake-lost", "--schedules", "60", "--save", str(tmp_path),
        "--expect", "deadlocked", "--json", str(tmp_path / "report.json"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["scenario"], report["policy"]) == ("pool-turn-waiter", "with turn-wake-lost")
    assert report["subject"] == {"kind": "client-pool", "recipe": "turn-waiter", "faults": ["turn-wake-lost"]}
    (saved,) = tmp_path.glob("pool-turn-waiter-*.json")
    again = command("replay", str(saved))
    assert again.exit_code == 0, again.output
    assert "waiter waits for event 'a turn of turns'" in again.output
    smaller = command("shrink", str(saved), "--out", str(tmp_path / "less.json"))
    assert smaller.exit_code == 0, smaller.output


def test_the_command_goes_through_all_orders() -> None:
    for more in (("--exhaustive",), ("--preemptions", "2"), ("--strategy", "dfs", "--exhaustive")):
        done = command("explore", "pool-turn-waiter", *more)
        assert done.exit_code == 0, done.output
        assert "complete: " in done.output
    found = command("explore", "pool-turn-waiter", "--fault", "turn-wake-lost", "--preemptions", "1")
    assert found.exit_code == 1
    assert "deadlocked" in found.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("pool-late-comers",), "did you mean 'pool-late-comer'"),
        (("pool-churn", "--fault", "leapfrg"), "--fault: no fault of the pool is called 'leapfrg'; did you mean 'leap"),
        (("pool-churn", "--fault", "sync-reduce"), "--fault: 'sync-reduce' is a fault of the coordinator"),
        (("mod-11658", "--fault", "leapfrog"), "--fault: 'leapfrog' is of the client pool; pool-leapfrog shows it"),
        (("mod-11658", "--fault", "sync-redice"), "did you mean 'sync-reduce'"),
        (("pool-churn", "--clients", "3"), "--clients has no meaning for a recipe of the client pool"),
        (("pool-churn", "--chaos", "cut"), "--chaos has no meaning for a recipe of the client pool"),
        (("pool-churn", "--stop", "drop"), "--stop has no meaning for a recipe of the client pool"),
        (("pool-churn", "--policy", "writeup-fix"), "--policy has no meaning for a recipe of the client pool"),
        (("pool-churn", "--preemptions", "1", "--strategy", "pos"), "--preemptions goes with the strategy dfs"),
        (("pool-churn", "--preemptions", "1", "--jobs", "2"), "--jobs: each order of an exhaustive search"),
    ],
)
def test_a_usage_error_is_one_line(args: tuple[str, ...], said: str) -> None:
    done = command("explore", *args)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_recipes_are_listed_and_not_compared() -> None:
    listed = command("scenarios").output
    for name in CLIENT_POOL.scenarios:
        assert name in listed
    done = command("compare", "pool-churn", "--runtime", "sim")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "the client pool has none to compare" in done.stderr


def test_whatever_else_a_recipe_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(rt: object, faults: frozenset[str]) -> None:
        raise KeyError("where")

    recipe = PoolRecipe("churn", "", (), program)
    monkeypatch.setattr(type(ClientPoolSubject("churn").scenario), "recipe", recipe)
    played = play(ClientPoolSubject("churn"), OrderPlan())
    assert played.verdict == "broken"
    assert played.failure is not None
    assert played.failure.signature == ("broken", "error", "KeyError", "program")
