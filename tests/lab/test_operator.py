"""The operator: replies, errors, and that nothing can make it wait for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordemu.lab.operator import Operator, OperatorError, OperatorGaveUp
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.threads import ThreadsRuntime


def never() -> bool:
    return False


@pytest.fixture
def operator(rt: ThreadsRuntime, chosen_host: Any) -> Iterator[Operator]:
    one = Operator(rt, chosen_host.host.address)
    yield one
    one.close()


def after(looks: int) -> Callable[[], bool]:
    """Gives up at the given look."""
    left = iter(range(looks))
    return lambda: next(left, None) is None


def test_replies(operator: Operator, rt: ThreadsRuntime) -> None:
    before_ns = rt.now_ns()
    assert operator.call("PING", give_up=never) == b"PONG"
    assert operator.call("PING", "again", give_up=never) == b"again"
    assert before_ns < operator.answered_ns <= rt.now_ns()


def test_an_error_reply_is_raised(operator: Operator) -> None:
    with pytest.raises(OperatorError, match="unknown command 'NOPE'"):
        operator.call("NOPE", give_up=never)
    assert operator.call("PING", give_up=never) == b"PONG"


def test_a_command_that_is_not_answered_is_given_up(operator: Operator, chosen_host: Any) -> None:
    chosen_host.answer = chosen_host.block
    with pytest.raises(OperatorGaveUp, match="idx q1"):
        operator.call("FT.SEARCH", "idx", "q1", give_up=lambda: bool(chosen_host.blocked))


def test_sending_and_answering_apart(operator: Operator, chosen_host: Any) -> None:
    chosen_host.answer = chosen_host.block
    operator.send("FT.SEARCH", "idx", "q1", give_up=never)
    assert operator.wait(lambda: bool(chosen_host.blocked), never, 10 * NS_PER_S)
    chosen_host.release()
    assert operator.answer("the search", never) == b"OK"


def test_a_host_that_hangs_up(operator: Operator, chosen_host: Any) -> None:
    chosen_host.answer = chosen_host.block
    operator.send("FT.SEARCH", "idx", "q1", give_up=never)
    assert operator.wait(lambda: bool(chosen_host.blocked), never, 10 * NS_PER_S)
    chosen_host.hang_up()
    with pytest.raises(OperatorError, match=r"closed by the server|reset"):
        operator.answer("the search", never)
    with pytest.raises(OperatorError, match=r"closed by the server|reset"):
        operator.call("PING", give_up=never)


def test_nobody_listens(rt: ThreadsRuntime, tmp_path: Path) -> None:
    operator = Operator(rt, Address(path=str(tmp_path / "absent")))
    with pytest.raises(OperatorError, match="No such file"):
        operator.call("PING", give_up=never)
    operator.close()


def test_giving_up_before_the_connection_stands(rt: ThreadsRuntime, chosen_host: Any) -> None:
    operator = Operator(rt, chosen_host.host.address)
    with pytest.raises(OperatorGaveUp, match="CONFIG GET x"):
        operator.call("CONFIG", "GET", "x", give_up=lambda: True)
    operator.close()


def test_waiting(operator: Operator, rt: ThreadsRuntime) -> None:
    assert operator.wait(lambda: True, lambda: True, 0)
    assert not operator.wait(never, after(3))
    began_ns = rt.now_ns()
    assert not operator.wait(never, never, 20 * NS_PER_MS)
    assert rt.now_ns() - began_ns >= 20 * NS_PER_MS
    # At the deadline it looks once more.
    assert operator.wait(after(1), never, 0)
