"""HttpServer: an HTTP/1.1 server over a loop of the runtime.

Role: what the Hub and the metrics page answer through. It has the listener and the connections; each connection
(`http_connection`) cuts its bytes into requests and asks the handler for answers. Since it knows the loop alone, the
same server has real sockets on threads and the in-memory network in the simulator.

A handler that raises answers 500; what it raised is kept, the newest sixteen, to be looked at.

Thread: the loop's, for everything (or any, while the loop does not run). Upstream: none. Left out: TLS, a bound on the
number of connections (the process has one), the Date header (the runtime has no calendar). Bounds: `HttpLimits`.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from coordemu.lab.http_connection import HttpConnection, HttpLimits
from coordemu.lab.http_exchange import HttpExchange
from coordemu.lab.http_message import HttpResponse, text_response
from coordemu.runtime.base import Address, Listener, Loop, Runtime, Transport, TransportHandler

# Called with a request; returns its answer, or None and answers later (or never) through the exchange.
Handler = Callable[[HttpExchange], HttpResponse | None]
ERRORS_KEPT = 16


class PortTaken(OSError):
    """Somebody listens at the address already. Its text is one line."""

    def __init__(self, address: Address) -> None:
        super().__init__(errno.EADDRINUSE, f"{address} is taken: something listens there already")
        self.address = address

    def __str__(self) -> str:
        return str(self.strerror)


class HttpServer:
    """One server. It listens from `start` to `stop` or `abort`, and can be started again at the same address.

    rt, loop: where it lives.  address: where to listen; port 0 finds a free port once and keeps it.  handler: called on
    the loop's thread; it must not block.
    """

    def __init__(
        self,
        rt: Runtime,
        loop: Loop,
        address: Address,
        handler: Handler,
        limits: HttpLimits | None = None,
        name: str = "http",
    ) -> None:
        self.name = name
        self.loop = loop
        self.limits = limits or HttpLimits()
        self.errors: deque[BaseException] = deque(maxlen=ERRORS_KEPT)
        self._rt = rt
        self._address = address
        self._handler = handler
        self._listener: Listener | None = None
        # In the order of their coming: a set is walked in an order of its own in every process.
        self._connections: dict[HttpConnection, None] = {}
        self._accepted = self._requests = self._refused = self._handler_errors = self._most_connections = 0
        self._by_status: dict[int, int] = {}

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was found."""
        return self._address

    @property
    def up(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    def start(self) -> Address:
        """Listen. Returns the address. Does nothing when up.

        Raises PortTaken, or another OSError when the address can't be had. May block: no.
        """
        if self._listener is None:
            try:
                self._listener = self.loop.listen(self._address, self._accept)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(self._address) from None
                raise
            self._address = self._listener.address
            self._rt.trace("", "HttpServer.start", f"{self.name} at {self._address}")
        return self._address

    def stop(self) -> None:
        """Accept nobody any more, end who awaits nothing, and the others with the answer that they await. Idempotent.

        May block: no.
        """
        self._close_listener()
        for connection in list(self._connections):
            connection.finish()

    def abort(self) -> None:
        """Accept nobody any more, and cut every connection, as the death of a process would. Idempotent. May block:
        no."""
        self._close_listener()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection, and go on listening. May block: no."""
        for connection in list(self._connections):
            connection.abort()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._rt.trace("", "HttpServer.stop", f"{self.name} at {self._address}")

    def _accept(self, transport: Transport) -> TransportHandler:
        self._accepted += 1
        connection = HttpConnection(self, transport)
        self._connections[connection] = None
        self._most_connections = max(self._most_connections, len(self._connections))
        return connection

    # -- for its connections

    def ask_handler(self, exchange: HttpExchange) -> HttpResponse | None:
        """What the handler says to a request. Raises nothing but what is no Exception."""
        self._requests += 1
        try:
            return self._handler(exchange)
        except Exception as error:
            self.note_error(error)
            return text_response(500, f"500 Internal Server Error: {type(error).__name__}: {error}")

    def note_error(self, error: BaseException) -> None:
        """A handler has raised, or given an answer that is none."""
        self._handler_errors += 1
        self.errors.append(error)

    def count_answer(self, status: int) -> None:
        """An answer leaves."""
        self._by_status[status] = self._by_status.get(status, 0) + 1

    def count_refusal(self, status: int) -> None:
        """A bad request is answered."""
        self._refused += 1
        self.count_answer(status)

    def forget(self, connection: HttpConnection) -> None:
        """It has ended."""
        self._connections.pop(connection, None)

    # -- to look at

    @property
    def by_status(self) -> dict[int, int]:
        """How many answers had which status. Thread: any."""
        return dict(sorted(self._by_status.items()))

    def statistics(self) -> dict[str, int]:
        """connections (now), accepted, most_connections, requests (good ones), answers, refused (bad requests),
        handler_errors. Thread: any."""
        return {
            "connections": len(self._connections),
            "accepted": self._accepted,
            "most_connections": self._most_connections,
            "requests": self._requests,
            "answers": sum(self._by_status.values()),
            "refused": self._refused,
            "handler_errors": self._handler_errors,
        }

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<HttpServer {self.name!r} {self._address} {state} connections={len(self._connections)}>"
