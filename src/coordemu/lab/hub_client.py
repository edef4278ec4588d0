"""HubClient: requests to the Hub through a pool of connections.

Role: what a backfill worker calls. Each request takes a connection of the pool for itself, and gives it back, or has it
closed when it is of no use any more. A status that says that it was not done becomes an `HttpStatusError`, with the
time that the Hub asks to be left alone for. Trying again, breakers and limits are the caller's (`coordemu.resilience`),
so a dial is one attempt.

Where as many dials in a row have failed as the pool may have connections, callers get that error at once, and the
pool's prober tries on (`probe_interval_ms`): after an outage the first request goes through within one such interval.

Thread: any number of callers; they block. Upstream: the write-up's Hub client with its limit of five connections.
Left out: what `HttpConn` leaves out. Bounds: the pool's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import quote

from coordemu.lab.http_client import HttpConn, HttpFailed
from coordemu.lab.http_message import HttpResponse
from coordemu.pool.blocking_stream import PROTOCOL
from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_context import PoolContext
from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.error_class import HttpStatusError, retry_after_ns
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime

HUB_POOL = PoolOptions(pool_size=5, dialer_retries=1)
TIMEOUT_MS = 5_000
_SECONDS = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)


class HubClient:
    """A client. options: of the pool; five connections by default.  timeout_ms: for an answer, 0: no limit.  faults: of
    the pool. Raises ValueError for a timeout_ms below 0."""

    def __init__(
        self,
        rt: Runtime,
        address: Address,
        options: PoolOptions = HUB_POOL,
        timeout_ms: int = TIMEOUT_MS,
        name: str = "hub client",
        faults: Collection[str] = (),
    ) -> None:
        if timeout_ms < 0:
            raise ValueError(f"{name}: timeout_ms {timeout_ms} is below 0")
        self.name = name
        self.address = address
        self._timeout_ns = timeout_ms * NS_PER_MS or None
        self.pool = ConnPool(
            rt, lambda dial_ns: HttpConn(rt, address, dial_ns), options, name, faults, health_check=HttpConn.healthy
        )

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        ctx: PoolContext | None = None,
    ) -> HttpResponse:
        """One request; its answer when the status is 200 to 299.

        path: quoted.  ctx: bounds the wait for a connection and for the answer, and calls both off.
        Raises HttpStatusError for another status, HttpFailed (its `sent` says whether the request had left), what
        `ConnPool.get` raises, Cancelled and DeadlineExceeded for the context, ValueError for a request that is none.
        Thread: any. Blocks.
        """
        loan = self.pool.get(ctx)
        wire: HttpConn = loan.resource
        try:
            response = wire.request(method, path, headers, body, self._timeout_ns, ctx)
        finally:
            if wire.failed:
                self.pool.remove(loan, "broken")
            else:
                self.pool.put(loan)
        if not 200 <= response.status <= 299:
            raise status_error(response)
        return response

    def fetch(self, message_id: str, ctx: PoolContext | None = None) -> dict[str, Any]:
        """The message with that id. Raises as `request`; HttpFailed ("protocol") for an answer that is no JSON object.
        Thread: any. Blocks."""
        return _object_of(self.request("GET", f"/messages/{quote(message_id, safe='')}", ctx=ctx))

    def history(
        self, conversation: str, cursor: int = 0, limit: int | None = None, ctx: PoolContext | None = None
    ) -> dict[str, Any]:
        """One page of a conversation: its "messages", and the "next" cursor, None at the end. limit: messages per page,
        1 to 100, None: the Hub's. Raises as `fetch`. Thread: any. Blocks."""
        asked: dict[str, Any] = {"conversation": conversation, "cursor": cursor}
        if limit is not None:
            asked["limit"] = limit
        headers = (("content-type", "application/json"),)
        return _object_of(self.request("POST", "/history", json.dumps(asked).encode(), headers, ctx))

    def close(self) -> None:
        """Close the pool; requests under way fail. Idempotent. Thread: any."""
        if self.pool.phase != "closed":
            self.pool.close()

    def statistics(self) -> dict[str, int]:
        """The pool's. Thread: any."""
        return self.pool.statistics()

    def __repr__(self) -> str:
        return f"<HubClient {self.address} {self.pool!r}>"


def status_error(response: HttpResponse) -> HttpStatusError:
    """What an answer means that says that it was not done. Thread: any."""
    return HttpStatusError(response.status, told_delay_ns(response), response.reason)


def told_delay_ns(response: HttpResponse) -> int | None:
    """How long the server asks to be left alone, ns; None: it does not say. With 429 and 503 X-RateLimit-Reset-After,
    where it is more than 0, says exactly what Retry-After says in whole seconds. Thread: any."""
    retry_after = response.header("retry-after")
    match = _SECONDS.fullmatch(response.header("x-ratelimit-reset-after") or "")
    if retry_after is not None and response.status in (429, 503) and match is not None:
        exact_ns = int(match[1]) * NS_PER_S + int((match[2] or "").ljust(9, "0"))
        if exact_ns:
            return exact_ns
    return retry_after_ns(retry_after)


def _object_of(response: HttpResponse) -> dict[str, Any]:
    try:
        value = response.json()
    except ValueError as error:
        raise HttpFailed(PROTOCOL, f"the answer is no JSON: {error}", sent=True) from None
    if not isinstance(value, dict):
        raise HttpFailed(PROTOCOL, "the answer is no JSON object", sent=True)
    return value
