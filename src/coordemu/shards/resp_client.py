"""RespClient: a blocking RESP client over the runtime's loop, for short questions with a deadline.

Role: asks a server whether it is there (`coordemu.shards.shard_url`), waits until a started one answers
(`coordemu.shards.real_redis`), and carries the control line of a shard process. Each client has a loop of its own, or
shares one with others so that many addresses are asked at the same time (`begin` on each, then `finish_all`).

Not for measuring: it waits for every answer.

Thread: one task at a time; the one that calls turns the loop. Upstream: none (hiredis' synchronous context). Left out:
reconnecting, pushes, subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import hiredis

from coordemu.runtime.base import NS_PER_MS, Address, Loop, Runtime, Transport

Command = Sequence[str | bytes | int]
# The stub of hiredis allows a command of one word only.
_pack: Callable[[Any], bytes] = hiredis.pack_command
_NOT_YET = object()
SHOWN_BYTES = 32


class RespClientError(Exception):
    """No answer could be had.

    kind: "connect" (refused, unreachable), "timeout" (nothing in time), "closed" (the peer hung up), or "protocol"
    (what came is not RESP).
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class RespClient:
    """One connection that asks and waits.

    rt: for the clock and the loop.  address: of the server.  loop: shared with other clients; None makes an own one,
    which `close` closes.
    """

    def __init__(self, rt: Runtime, address: Address, loop: Loop | None = None) -> None:
        self.address = address
        self._rt = rt
        self._own_loop = loop is None
        self._loop = rt.loop(f"ask {address}") if loop is None else loop
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._transport: Transport | None = None
        self._connected = False
        self._unsent = b""
        self._owed = 0
        self._replies: list[Any] = []
        self._error: RespClientError | None = None
        self._first_bytes = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "failed" if self._error else "connected" if self._connected else "not connected"
        return f"<RespClient {self.address} {state} owed={self._owed}>"

    @property
    def done(self) -> bool:
        """Whether every command that was begun has its answer, or none can come any more."""
        return self._error is not None or self._owed == 0

    @property
    def hung_up(self) -> bool:
        """Whether the connection has failed or ended. Seen only while the loop turns."""
        return self._error is not None

    @property
    def loop(self) -> Loop:
        """The loop it turns."""
        return self._loop

    def statistics(self) -> dict[str, int]:
        """Answers owed, and answers that came and were not fetched."""
        return {"owed": self._owed, "unfetched": len(self._replies)}

    def request(self, *command: str | bytes | int, timeout_ms: float) -> Any:
        """Send one command and return its reply, as hiredis reads it.

        timeout_ms: for connecting and answering together, more than 0.
        Raises hiredis.ReplyError for an error reply, RespClientError for none. May block.
        """
        self.begin([command])
        (reply,) = self.finish(timeout_ms)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def begin(self, commands: Sequence[Command]) -> None:
        """Connect, unless that was done, and send.

        Replies are fetched with `finish`. Raises RespClientError after a failure.
        """
        if self._error is not None:
            raise self._error
        packed = b"".join([_pack(tuple(command)) for command in commands])
        self._owed += len(commands)
        if self._transport is None:
            try:
                self._transport = self._loop.connect(self.address, self)
            except OSError as problem:
                raise self._fail("connect", problem.strerror or str(problem)) from problem
        if self._connected:
            self._transport.write(packed)
        else:
            self._unsent += packed

    def finish(self, timeout_ms: float) -> list[Any]:
        """Wait for all answers and return them; error replies are hiredis.ReplyError values among them.

        Raises RespClientError, kind "timeout", after timeout_ms. May block.
        """
        finish_all(self._rt, [self], timeout_ms)
        return self.results(timeout_ms)

    def results(self, timeout_ms: float) -> list[Any]:
        """What `finish` returns or raises, without waiting.

        timeout_ms: how long was waited, for the error's text. Thread: any.
        """
        if self._error is not None:
            raise self._error
        if self._owed:
            what = "no answer" if self._connected else "no connection"
            raise self._fail("timeout", f"{what} within {timeout_ms:.0f} ms")
        replies, self._replies = self._replies, []
        return replies

    def close(self) -> None:
        """End the connection, and the loop when it is an own one. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
        if self._own_loop:
            self._loop.close()

    def on_connect(self) -> None:
        """For the loop."""
        self._connected = True
        if self._transport is not None and self._unsent:
            self._transport.write(self._unsent)
            self._unsent = b""

    def on_data(self, data: bytes) -> None:
        """For the loop."""
        if len(self._first_bytes) < SHOWN_BYTES:
            self._first_bytes = (self._first_bytes + data)[:SHOWN_BYTES]
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOT_YET:
                self._replies.append(reply)
                self._owed -= 1
        except hiredis.ProtocolError:
            self._fail("protocol", f"does not speak RESP (it sent {self._first_bytes!r})")
            if self._transport is not None:
                self._transport.abort()

    def on_close(self, reason: str | None) -> None:
        """For the loop."""
        if self._connected:
            self._fail("closed", "closed the connection" + (f" ({reason})" if reason else ""))
        else:
            self._fail("connect", reason or "closed before it was connected")

    def _fail(self, kind: str, text: str) -> RespClientError:
        if self._error is None:
            self._error = RespClientError(kind, text)
        return self._error


def finish_all(rt: Runtime, clients: Iterable[RespClient], timeout_ms: float) -> None:
    """Turn the loops of these clients (one, shared by all, or each its own) until all are done or the time is up.

    timeout_ms: for all together, more than 0. Says nothing of the outcome: `RespClient.finish` does. May block.
    """
    deadline_ns = rt.now_ns() + round(timeout_ms * NS_PER_MS)
    for client in clients:
        while not client.done and (left_ns := deadline_ns - rt.now_ns()) > 0:
            client.loop.run_once(left_ns)


def ask(rt: Runtime, address: Address, *command: str | bytes | int, timeout_ms: float) -> Any:
    """One command over a connection of its own: `RespClient.request`, with the same errors. May block."""
    with RespClient(rt, address) as client:
        return client.request(*command, timeout_ms=timeout_ms)
