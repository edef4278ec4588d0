"""HttpExchange: one request, and the one answer that it may get.

Role: what a server's handler is called with. The handler returns an answer, or returns None and answers later through
the exchange, or never. As soon as there is an answer, or the connection has ended, the exchange is over; whatever comes
after that does nothing and says so.

Thread: the server's loop, for everything. Upstream: none. Left out: answers in pieces, several timers per exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordemu.lab.http_message import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from coordemu.lab.http_connection import HttpConnection


class HttpExchange:
    """One request. `on_gone`, when set, is called if the connection ends before there is an answer."""

    __slots__ = ("_connection", "on_gone", "request")

    def __init__(self, connection: HttpConnection, request: HttpRequest) -> None:
        self.request = request
        self.on_gone: Callable[[], None] | None = None
        self._connection = connection

    @property
    def over(self) -> bool:
        """Whether it was answered, or can't be any more."""
        return self._connection.exchange is not self

    def answer(self, response: HttpResponse) -> bool:
        """Send the answer; the connection goes on with its next request. False: it was over. Never blocks."""
        return not self.over and self._connection.send(response)

    def cut(self, response: HttpResponse, keep_bytes: int) -> bool:
        """Send the answer's head and keep_bytes (0 or more) of its body, and end the connection. False: it was over.

        The head promises the whole body, so the client can tell. Never blocks.
        """
        return not self.over and self._connection.send(response, max(0, keep_bytes))

    def hang_up(self) -> bool:
        """End the connection without an answer, as by the death of the server. False: it was over. Never blocks."""
        if self.over:
            return False
        self._connection.abort()
        return True

    def after(self, delay_ns: int, call: Callable[[], object]) -> None:
        """Call back in delay_ns (0 or more), unless it is over by then; replaces an earlier one. Never blocks."""
        if not self.over:
            self._connection.wake_in(delay_ns, call)

    def __repr__(self) -> str:
        return f"<HttpExchange {self.request.method} {self.request.target}{' over' if self.over else ''}>"
