"""The three job queues: who is pulled next, against examples and against a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.coord.thpool_queue import HIGH, KIND_ADMIN, KIND_PLAIN, KIND_TICKET, LOW, PriorityQueues


def job(label: str) -> tuple[Callable[[Any], object], str]:
    return print, label


def filled(tickets: int, high: int = 0, low: int = 0, admin: int = 0) -> PriorityQueues:
    queues = PriorityQueues(tickets)
    queues.push_n_locked([job(f"h{i}") for i in range(high)], HIGH)
    queues.push_n_locked([job(f"l{i}") for i in range(low)], LOW)
    queues.push_admin_locked([(None, f"a{i}") for i in range(admin)])
    return queues


def pull_all(queues: PriorityQueues, finish: bool) -> list[str]:
    order = []
    while (pulled := queues.pull_locked()) is not None:
        kind, (_, label) = pulled
        order.append(label)
        if finish:
            queues.done_locked(kind)
    return order


def test_an_empty_queue_gives_nothing_and_takes_no_turn() -> None:
    for tickets in (0, 1):
        queues = PriorityQueues(tickets)
        assert queues.pull_locked() is None
        assert queues.alternating_pulls == 0
        assert queues.free_tickets == tickets


def test_admin_jobs_come_first_and_in_order() -> None:
    assert pull_all(filled(1, high=2, low=1, admin=2), finish=True) == ["a0", "a1", "h0", "h1", "l0"]


def test_without_tickets_the_queues_take_turns_high_first() -> None:
    queues = filled(0, high=3, low=3)
    assert pull_all(queues, finish=True) == ["h0", "l0", "h1", "l1", "h2", "l2"]
    assert queues.alternating_pulls == 6


def test_the_turn_falls_to_the_other_queue_when_one_is_empty_and_counts_all_the_same() -> None:
    queues = filled(0, low=2)
    assert pull_all(queues, finish=True) == ["l0", "l1"]
    assert queues.alternating_pulls == 2
    queues.push_locked(job("l2"), LOW)
    queues.push_locked(job("h0"), HIGH)
    assert queues.pull_locked() == (KIND_PLAIN, job("h0"))
    queues.push_locked(job("h1"), HIGH)
    assert queues.pull_locked() == (KIND_PLAIN, job("l2"))
    assert queues.pull_locked() == (KIND_PLAIN, job("h1"))


def test_a_free_ticket_prefers_high_and_is_held_until_the_job_is_done() -> None:
    queues = filled(1, high=3, low=2)
    assert queues.pull_locked() == (KIND_TICKET, job("h0"))
    assert queues.free_tickets == 0
    # No ticket is free: now they take turns, and a high job pulled so holds no ticket.
    assert queues.pull_locked() == (KIND_PLAIN, job("h1"))
    assert queues.pull_locked() == (KIND_PLAIN, job("l0"))
    queues.done_locked(KIND_PLAIN)
    assert queues.free_tickets == 0
    queues.done_locked(KIND_TICKET)
    assert queues.free_tickets == 1
    assert queues.pull_locked() == (KIND_TICKET, job("h2"))


def test_with_a_free_ticket_a_low_job_takes_neither_ticket_nor_turn() -> None:
    queues = filled(2, low=1)
    assert queues.pull_locked() == (KIND_PLAIN, job("l0"))
    assert (queues.free_tickets, queues.alternating_pulls) == (2, 0)


def test_an_admin_job_takes_neither_ticket_nor_turn() -> None:
    for tickets in (0, 1):
        queues = filled(tickets, admin=1)
        pulled = queues.pull_locked()
        assert pulled is not None
        assert pulled[0] == KIND_ADMIN
        queues.done_locked(KIND_ADMIN)
        assert (queues.free_tickets, queues.alternating_pulls) == (tickets, 0)


@pytest.mark.parametrize("priority", ["admin", "", "HIGH", "medium"])
def test_another_priority_is_refused_and_changes_nothing(priority: str) -> None:
    queues = filled(1, high=1)
    with pytest.raises(ValueError, match="priority"):
        queues.push_locked(job("x"), priority)
    with pytest.raises(ValueError, match="priority"):
        queues.push_n_locked([job("x")], priority)
    assert queues.lengths_locked() == (0, 1, 0)


def test_tickets_below_none_are_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        PriorityQueues(-1)


def test_lengths_and_clear_and_repr() -> None:
    queues = filled(3, high=1, low=2, admin=4)
    assert queues.lengths_locked() == (4, 1, 2)
    assert queues.length_locked() == 7
    assert repr(queues) == "<PriorityQueues admin=4 high=1 low=2 tickets=3/3 turn=0>"
    assert queues.clear_locked() == 7
    assert queues.length_locked() == 0
    assert queues.pull_locked() is None


class Model:
    """The rule once more, written as lists and an order of preference."""

    def __init__(self, tickets: int) -> None:
        self.waiting: dict[str, list[str]] = {"admin": [], HIGH: [], LOW: []}
        self.tickets = tickets
        self.running: list[tuple[str, bool]] = []
        self.turn = 0

    def pull(self) -> str | None:
        free = self.tickets - sum(holds for _, holds in self.running)
        high_first = free > 0 or self.turn % 2 == 0
        for name in ("admin", HIGH, LOW) if high_first else ("admin", LOW, HIGH):
            if self.waiting[name]:
                label = self.waiting[name].pop(0)
                self.running.append((label, name == HIGH and free > 0))
                if name != "admin" and free <= 0:
                    self.turn += 1
                return label
        return None


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(["admin", HIGH, LOW]), st.integers(1, 4)),
        st.tuples(st.just("pull"), st.just(""), st.integers(1, 5)),
        st.tuples(st.just("done"), st.just(""), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(tickets=st.integers(0, 3), operations=OPERATIONS)
def test_the_queues_do_what_the_model_does(tickets: int, operations: list[tuple[str, str, int]]) -> None:
    queues, model = PriorityQueues(tickets), Model(tickets)
    running: list[int] = []
    number = 0
    for what, priority, count in operations:
        if what == "push":
            labels = [f"{priority}{number + i}" for i in range(count)]
            number += count
            model.waiting[priority].extend(labels)
            if priority == "admin":
                queues.push_admin_locked([(None, label) for label in labels])
            elif count == 1:
                queues.push_locked(job(labels[0]), priority)
            else:
                queues.push_n_locked([job(label) for label in labels], priority)
        elif what == "pull":
            for _ in range(count):
                expected = model.pull()
                pulled = queues.pull_locked()
                if pulled is None:
                    assert expected is None
                else:
                    running.append(pulled[0])
                    assert pulled[1][1] == expected
        elif running:
            at = count % len(running)
            queues.done_locked(running.pop(at))
            model.running.pop(at)
        assert queues.free_tickets == tickets - sum(holds for _, holds in model.running)
        assert queues.alternating_pulls == model.turn
        assert queues.lengths_locked() == tuple(len(model.waiting[name]) for name in ("admin", HIGH, LOW))
