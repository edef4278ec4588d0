"""The five issues of the model's documents: mended on threads and in the simulator, and each fault seen as itself."""

from __future__ import annotations

import pytest

from coordemu.explore.order import OrderPlan, play
from coordemu.explore.search import length_of, search_range
from coordemu.lab.client_pool_subject import ClientPoolSubject
from coordemu.pool.invariants import InvariantBroken
from coordemu.pool.issue_recipes import ISSUE_RECIPES, Hands
from coordemu.pool.pool_conn_state import PoolConnState
from coordemu.pool.recipe_base import Crew, recipe_pool
from coordemu.runtime.base import NS_PER_S

PROGRAMS = {recipe.name: recipe.program for recipe in ISSUE_RECIPES}
# What the oracle must say of each fault: the thing itself, not how long a call took.
SAID = {
    ("issue-race", "acquire-by-store"): ("S2", "have pool#1"),
    ("issue-race", "shared-created"): ("S2", "it is CREATED, not IN_USE"),
    ("issue-exhaustion", "turn-stolen"): ("S8", "served before one who came earlier"),
    ("issue-exhaustion", "turn-double-release"): ("S1", "2 of 1 turns are free"),
    ("issue-exhaustion", "turn-sent-unlocked"): ("Q1", "1 turns are held, and 0 connections are in hands"),
    ("issue-unusable", "cancel-against-notify"): ("Q5", "is UNUSABLE, and nobody owns it"),
    ("issue-herd", "max-active-overshoot"): ("Q9", "3 connections were open at once, and 2 may be"),
    ("issue-herd", "double-free-turn"): ("TurnsOverfull", "all 3 are free"),
    ("issue-herd", "stale-wants"): ("Q7", "1 wants are queued"),
    ("issue-herd", "nil-context"): ("Q3", "a dial was lost"),
    ("issue-bursts", "pop-last-try"): ("Q3", "0 times in the idle list"),
    ("issue-bursts", "zombie-idle"): ("Q3", "removed connections are in the idle list"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_issue_is_none_when_mended(harness, rt, name: str) -> None:
    PROGRAMS[name](rt, frozenset())


@pytest.mark.parametrize("name", PROGRAMS)
def test_mended_on_threads_again_and_again(rt_threads, name: str) -> None:
    for _ in range(5):
        PROGRAMS[name](rt_threads, frozenset())


@pytest.mark.parametrize("name", PROGRAMS)
def test_mended_it_survives_both_clocks(name: str) -> None:
    subject = ClientPoolSubject(name)
    result = search_range(subject, "portfolio", 11, 0, 150, length_of(subject))
    assert result.verdicts == {"healthy": 150}, result.found[:1]


def test_every_fault_of_an_issue_has_its_sentence() -> None:
    assert set(SAID) == {(recipe.name, fault) for recipe in ISSUE_RECIPES for fault in recipe.faults}


@pytest.mark.parametrize(("name", "fault"), SAID)
def test_the_fault_itself_is_seen(name: str, fault: str) -> None:
    rule, words = SAID[name, fault]
    subject = ClientPoolSubject(name, (fault,))
    # Several rules may break first, in different orders; one of the first failures names this one.
    result = search_range(subject, "portfolio", 1, 0, 200, length_of(subject))
    said = [found.failure for found in result.found]
    assert any(rule in failure.signature and words in failure.sentence for failure in said), said


def test_a_lost_turn_is_seen_before_the_time_limit_hides_it() -> None:
    """Somebody sleeps beside a free turn: the rules are looked at while it sleeps, far below its two seconds."""
    subject = ClientPoolSubject("issue-exhaustion", ("turn-wake-lost",))
    length = length_of(subject)
    found = search_range(subject, "portfolio", 2, 0, 2000, length, stop_at_first=True).found[0]
    assert found.failure.signature == ("broken", "Q4")
    assert "turns are free, and" in found.failure.sentence


def test_two_owners_are_told_by_name(harness, rt) -> None:
    pool = recipe_pool(rt, frozenset())
    hands, crew, conn = Hands(rt), Crew(rt), pool.get()
    gate = rt.event("the gate")
    hands._rt = type("Waits", (), {"sleep_ns": staticmethod(lambda ns: gate.wait())})()
    crew.add("one", lambda: hands.use("one", conn))
    assert rt.poll_until(lambda: hands._owners, 100_000, "the first", timeout_ns=10 * NS_PER_S)
    with pytest.raises(InvariantBroken, match="other and one have pool#1"):
        hands.use("other", conn)
    gate.set()
    crew.join()
    with pytest.raises(InvariantBroken, match="it is IN_USE, not UNUSABLE"):
        hands.use("other", conn, PoolConnState.UNUSABLE)
    pool.put(conn)


def test_watching_tells_of_a_thread_that_failed_while_others_wait(rt_threads) -> None:
    crew, gate = Crew(rt_threads), rt_threads.event("the gate")

    def fails() -> None:
        raise KeyError("where")

    crew.add("waits", gate.wait)
    crew.add("fails", fails)
    with pytest.raises(KeyError):
        crew.join_watching(lambda: None)
    assert crew.any_ended
    gate.set()


def test_on_the_plain_order_nothing_is_wrong() -> None:
    for name in PROGRAMS:
        assert play(ClientPoolSubject(name), OrderPlan()).verdict == "healthy"
