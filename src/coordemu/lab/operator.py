"""Operator: the person with redis-cli; sends commands to the host and waits for the answers, but not for ever.

Role: sends CONFIG SET and asks questions, from the lab's own task. While it waits it turns a loop and looks after
the run (`LabRun` gives it a function that says when to give up), so that a frozen host can't freeze the lab.

Thread: the lab's. Blocks, boundedly. Upstream: redis-cli. Left out: pipelining, reconnecting.
"""

from __future__ import annotations

from collections.abc import Callable

import hiredis

from coordemu.lab.resp_stream import RespStream
from coordemu.runtime.base import NS_PER_MS, Address, Runtime


class OperatorGaveUp(Exception):
    """No answer came before the run said to stop waiting."""


class OperatorError(Exception):
    """The host answered with an error, or closed the connection."""


class Operator:
    """One connection to the host, used for one command at a time."""

    def __init__(self, rt: Runtime, address: Address) -> None:
        """Begin to connect."""
        self._rt = rt
        self._loop = rt.loop("operator")
        self._replies: list[tuple[object, int]] = []
        self._ended = ""
        self._ready = False
        self._stream = RespStream(self._loop, address, self._replied, self._end, self._connected)
        self.answered_ns = 0

    def _replied(self, reply: object) -> None:
        self._replies.append((reply, self._rt.now_ns()))

    def _connected(self) -> None:
        self._ready = True

    def _end(self, reason: str) -> None:
        self._ended = reason

    def call(self, *words: str, give_up: Callable[[], bool]) -> object:
        """Send a command and wait for its reply. give_up is asked about every 10 ms.

        Raises OperatorGaveUp, and OperatorError for an error reply or a closed connection. Blocks.
        """
        self.send(*words, give_up=give_up)
        return self.answer(" ".join(words), give_up)

    def send(self, *words: str, give_up: Callable[[], bool]) -> None:
        """Send a command, once connected. The bytes leave when the loop turns: at the next `wait` or `answer`.

        Raises OperatorGaveUp, and OperatorError for a closed connection. Blocks until the connection stands.
        """
        ready = self.wait(lambda: self._ready or bool(self._ended), give_up)
        if self._ended:
            raise OperatorError(self._ended)
        if not ready:
            raise OperatorGaveUp(" ".join(words))
        self._stream.send(words)

    def answer(self, what: str, give_up: Callable[[], bool]) -> object:
        """Wait for the reply of what was sent; `answered_ns` then says when it came. what: for the error.

        Raises as `call`. Blocks.
        """
        if not self.wait(lambda: bool(self._replies) or bool(self._ended), give_up):
            raise OperatorGaveUp(what)
        if not self._replies:
            raise OperatorError(self._ended)
        reply, self.answered_ns = self._replies.pop(0)
        if isinstance(reply, hiredis.ReplyError):
            raise OperatorError(str(reply))
        return reply

    def wait(self, predicate: Callable[[], bool], give_up: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Wait until the predicate holds, give_up says so, or time is up. Returns whether it held. Blocks."""
        deadline_ns = None if timeout_ns is None else self._rt.now_ns() + timeout_ns
        while not predicate():
            if give_up() or (deadline_ns is not None and self._rt.now_ns() >= deadline_ns):
                return predicate()
            left_ns = 10 * NS_PER_MS
            if deadline_ns is not None:
                left_ns = max(0, min(left_ns, deadline_ns - self._rt.now_ns()))
            self._loop.run_once(left_ns)
        return True

    def close(self) -> None:
        """Drop the connection."""
        self._loop.close()
