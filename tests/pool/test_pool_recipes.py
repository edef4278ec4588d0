"""Every fault is found in the simulator within few orders, and its mended form survives the same and more."""

from __future__ import annotations

import pytest
from searches import check_survives, failures_found

from coordemu.explore.dfs import search_all
from coordemu.explore.dpor import exhaust
from coordemu.explore.order import PASSED
from coordemu.explore.program import ProgramSubject
from coordemu.explore.search import search_range
from coordemu.pool.pool_faults import POOL_FAULTS, UnknownPoolFault, check_pool_faults
from coordemu.pool.pool_recipe_list import POOL_RECIPES, SHOWN
from coordemu.pool.slot_map_holder import SlotMapHolder
from coordemu.pool.sticky_conn import StickyConn

ORDERS = 200
# Small enough for all orders with up to two preemptions: 13 to 3,500 of them.
SMALL = (
    "reauth-vs-put", "reauth-cancelled", "leapfrog", "close-vs-wait", "worker-vs-close", "late-store", "two-takers",
    "turn-waiter", "late-comer", "failed-dial", "early-cancel", "last-try", "refused-new", "close-vs-parked",
    "retire-vs-put", "eviction", "failed-handshake", "slow-address", "two-puts", "stale-put", "reauth-of-a-fresh-one",
    "handoff-rollback",
)  # fmt: skip


def subject(name: str, *faults: str) -> ProgramSubject:
    recipe = POOL_RECIPES[name]
    return ProgramSubject(lambda rt: recipe.program(rt, frozenset(faults)), name)


def test_every_fault_has_a_recipe_and_a_sentence_with_its_source() -> None:
    assert {fault for _, fault in SHOWN} == set(POOL_FAULTS)
    assert len(POOL_FAULTS) >= 12
    for name, sentence in POOL_FAULTS.items():
        assert sentence[0] in "[(", name
        assert sentence.endswith("."), name
    for recipe in POOL_RECIPES.values():
        assert recipe.sentence


@pytest.mark.parametrize(("name", "fault"), SHOWN)
def test_a_fault_is_found_and_again_with_another_seed(name: str, fault: str) -> None:
    for failure in failures_found(subject(name, fault), fault):
        assert failure.kind in ("error", "deadlocked")


@pytest.mark.parametrize("strategy", ["random", "pct3", "pos"])
@pytest.mark.parametrize("name", POOL_RECIPES)
def test_the_mended_form_survives(name: str, strategy: str) -> None:
    check_survives(subject(name), strategy, ORDERS)


@pytest.mark.parametrize("name", SMALL)
def test_the_small_ones_survive_all_orders_with_two_preemptions(name: str) -> None:
    result = search_all(subject(name), preemptions=2)
    assert result.complete
    assert set(result.verdicts) == {PASSED}
    assert result.runs > 2


@pytest.mark.parametrize("name", ["reauth-vs-put", "late-store", "two-takers", "turn-waiter", "late-comer", "two-puts"])
def test_every_class_of_orders_of_the_smallest_survives_and_the_faults_are_among_them(name: str) -> None:
    mended = exhaust(subject(name))
    assert mended.complete
    assert set(mended.verdicts) == {PASSED}
    for fault in POOL_RECIPES[name].faults:
        assert exhaust(subject(name, fault)).found


@pytest.mark.parametrize("name", [name for name in POOL_RECIPES if name != "slow-address"])
def test_a_mended_recipe_runs_on_threads_too(rt_threads, name: str) -> None:
    for _ in range(3):
        POOL_RECIPES[name].program(rt_threads, frozenset())


def test_a_wait_for_the_map_that_begins_too_late_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the recipe first-map is good for: to look for an asker and to join those who wait in two steps loses one."""
    in_one_step = SlotMapHolder._begin_or_wait_locked

    def in_two_steps(self):
        event = in_one_step(self)
        if event is not None:
            self._waits.remove(event)
            self._lock.release()
            self._lock.acquire()
            self._waits.append(event)
        return event

    monkeypatch.setattr(SlotMapHolder, "_begin_or_wait_locked", in_two_steps)
    found = search_range(subject("first-map"), "portfolio", 1, 0, 1000, 100, stop_at_first=True).found
    assert found[0].failure.kind == "deadlocked"


def test_a_close_that_takes_a_shared_connection_away_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_away(self):
        with self._lock:
            self._closed = True
            given = self._take_out_locked()
        self._line.close()
        if given is not None:
            self._hand_back(*given)

    monkeypatch.setattr(StickyConn, "close", take_away)
    found = search_range(subject("sticky"), "portfolio", 1, 0, 1000, 100, stop_at_first=True).found
    assert "was taken from a caller that has it" in found[0].failure.sentence


def test_faults_are_known_by_name(make_pool) -> None:
    assert check_pool_faults(POOL_FAULTS) == frozenset(POOL_FAULTS)
    with pytest.raises(UnknownPoolFault, match="did you mean 'leapfrog'"):
        make_pool(faults=("leapfrg",))
    with pytest.raises(UnknownPoolFault, match="not the one word"):
        check_pool_faults("leapfrog")
    assert make_pool(faults=("leapfrog",)).faults == {"leapfrog"}
