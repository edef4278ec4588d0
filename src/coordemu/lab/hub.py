"""Hub: the rate-limited web API that a backfill fetches from, as a real HTTP server.

Role: the far end of the backfill scenario. It answers

* ``GET /messages/<id>`` with that message, and
* ``POST /history`` (``{"conversation": id, "cursor": 0, "limit": 20}``, the last two may be left out) with one page,

both as JSON that follows from the id alone. What a request meets, in this order: an outage of the plan; 404, 405 and
400; the rate limit (429 with Retry-After in whole seconds, rounded up, and X-RateLimit-Reset-After exactly); then,
after the plan's latency: a failure of the plan, poison (422), a cut, the content. From the rate limit on every answer
says X-RateLimit-Limit, -Remaining and -Reset-After.

Its chance is none: whether the n-th request for an id fails, and how late it is answered, follows from the seed, the id
and n. So two runs over the same ids meet the same, whatever their order, and can be compared.

It knows how often each id was served, to the last byte handed to the network. Whether that arrived it cannot know.

Thread: the loop's; the counts may be looked at from any. Upstream: none. Left out: keys and logins, limits per client.
Bounds: counts per id are kept for ever; requests in flight have none.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from coordemu.lab.http_exchange import HttpExchange
from coordemu.lab.http_message import Headers, HttpResponse, json_response
from coordemu.lab.http_server import HttpServer
from coordemu.lab.hub_content import LONGEST_CONVERSATION, PAGE_SIZE, message_of, number_of, page_of
from coordemu.lab.hub_limit import HubLimit, LimitAnswer
from coordemu.lab.hub_plan import CALM, PPM, REFUSE, SILENCE, HubPlan, Outage
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Loop, Runtime, Timer

RELISTEN_NS = 50 * NS_PER_MS
OK, BAD_REQUEST, NOT_FOUND, NOT_ALLOWED, POISONED, TOO_MANY, UNAVAILABLE_NOW = 200, 400, 404, 405, 422, 429, 503
COUNTS = (
    "requests", "served", "rate_limited", "failed", "poisoned", "cut", "abandoned", "silenced", "unavailable", "bad",
    "outages", "relisten_failures",
)  # fmt: skip


class Hub:
    """One Hub. It listens from `start` to `stop`, but for outages.

    rt, loop: where it lives.  address: where to listen; port 0 finds a free port once and keeps it.  plan: from the
    start on.  limit_per_s: requests in any second, 0 or more; 0: no limit.  seed: of its failures and latencies.
    """

    def __init__(
        self,
        rt: Runtime,
        loop: Loop,
        address: Address | None = None,
        plan: HubPlan = CALM,
        limit_per_s: int = 10,
        seed: int = 1,
        name: str = "hub",
    ) -> None:
        self.name = name
        self.limit = HubLimit(limit_per_s)
        self._rt = rt
        self._loop = loop
        self._server = HttpServer(rt, loop, address or Address(), self._handle, name=name)
        self._plan = plan
        self._plan_set_ns = 0
        self._seed = seed
        self._outage: Outage | None = None
        self._timer: Timer | None = None
        self._counts = dict.fromkeys(COUNTS, 0)
        self._in_flight = self._most_in_flight = 0
        self._asked: dict[str, int] = {}
        self._served: dict[str, int] = {}

    # -- its life

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was found."""
        return self._server.address

    @property
    def plan(self) -> HubPlan:
        """As it was set."""
        return self._plan

    @property
    def outage(self) -> Outage | None:
        """The one that holds now."""
        return self._outage

    def start(self) -> Address:
        """Listen, and begin with the plan. Returns the address. Does nothing when started.

        Raises PortTaken, or another OSError. Thread: the loop's, or any while it does not run. May block: no.
        """
        if self._timer is None:
            self._server.start()
            self._timer = self._loop.timer(self._apply_plan, f"{self.name} plan")
            self.set_plan(self._plan)
        return self.address

    def stop(self) -> None:
        """Close the port, end the connections that await nothing and cut the others. Idempotent. May block: no."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._server.stop()
        self._server.abort()

    def set_plan(self, plan: HubPlan) -> None:
        """Change the plan; its spans count from now. Thread: the loop's. May block: no."""
        self._plan = plan
        self._plan_set_ns = self._rt.now_ns()
        self._apply_plan()

    def _elapsed_ns(self) -> int:
        return max(0, self._rt.now_ns() - self._plan_set_ns)

    def _apply_plan(self) -> None:
        """An outage may begin or end now."""
        if self._timer is None:
            return
        elapsed_ns = self._elapsed_ns()
        before, self._outage = self._outage, self._plan.outage_at(elapsed_ns)
        change_ns = self._plan.next_change_ns(elapsed_ns)
        if self._outage != before:
            self._counts["outages"] += self._outage is not None
            self._rt.trace("", "Hub.outage", str(self._outage or "over"))
            if before is not None and before.mode == SILENCE:
                self._server.cut_all()
        if self._outage is not None and self._outage.mode == REFUSE:
            self._server.abort()
        elif not self._server.up:
            try:
                self._server.start()
            except OSError:
                # Somebody has taken the port meanwhile. Trying on beats ending the whole run.
                self._counts["relisten_failures"] += 1
                change_ns = min(change_ns or RELISTEN_NS, RELISTEN_NS)
        if change_ns is None:
            self._timer.stop()
        else:
            self._timer.start(change_ns)

    # -- answering

    def _handle(self, exchange: HttpExchange) -> HttpResponse | None:
        self._counts["requests"] += 1
        outage = self._plan.outage_at(self._elapsed_ns())
        if outage != self._outage:  # its time has come before its timer
            self._apply_plan()
        if exchange.over:
            self._counts["abandoned"] += 1
            return None
        if outage is not None and outage.mode == SILENCE:
            self._counts["silenced"] += 1
            return None
        if outage is not None:
            self._counts["unavailable"] += 1
            return _error(UNAVAILABLE_NOW, "the Hub is down")
        wanted = _wanted(exchange)
        if isinstance(wanted, HttpResponse):
            self._counts["bad"] += 1
            return wanted
        subject, ident, content = wanted
        room = self.limit.ask(self._rt.now_ns())
        headers = self._limit_headers(room)
        if not room.granted:
            self._counts["rate_limited"] += 1
            seconds = -(-room.reset_ns // NS_PER_S)
            return _error(TOO_MANY, "too many requests", (("Retry-After", str(max(1, seconds))), *headers))
        self._asked[ident] = attempt = self._asked.get(ident, 0) + 1
        self._enter()
        exchange.on_gone = self._gone
        answer = partial(self._answer, exchange, subject, ident, attempt, content, headers)
        delay_ns = self._delay_ns(ident, attempt)
        if delay_ns:
            exchange.after(delay_ns, answer)
        else:
            answer()
        return None

    def _answer(
        self,
        exchange: HttpExchange,
        subject: str,
        ident: str,
        attempt: int,
        content: dict[str, Any],
        headers: Headers,
    ) -> None:
        """The latency is over."""
        plan = self._plan
        if self._outage is not None and self._outage.mode == SILENCE:
            self._counts["silenced"] += 1
            exchange.on_gone = self._leave
            return  # in flight until the span's end cuts it
        self._leave()
        if self._draw("fail", ident, attempt) < plan.fail_ppm:
            statuses = plan.fail_statuses
            status = statuses[number_of(self._seed, "status", ident, attempt) % len(statuses)]
            self._counts["failed"] += 1
            exchange.answer(_error(status, "the Hub has failed", headers))
        elif plan.is_poison(subject):
            self._counts["poisoned"] += 1
            exchange.answer(_error(POISONED, f"{subject} cannot be processed", headers))
        else:
            response = json_response(OK, content, headers)
            if self._draw("cut", ident, attempt) < plan.cut_ppm:
                self._counts["cut"] += 1
                exchange.cut(response, len(response.body) // 2)
            elif exchange.answer(response):
                self._counts["served"] += 1
                self._served[ident] = self._served.get(ident, 0) + 1

    def _draw(self, what: str, ident: str, attempt: int) -> int:
        return number_of(self._seed, what, ident, attempt) % PPM

    def _delay_ns(self, ident: str, attempt: int) -> int:
        plan = self._plan
        jitter_ns = plan.jitter_ns * self._draw("jitter", ident, attempt) // PPM
        return (plan.latency_ns + jitter_ns) * plan.slow_factor_at(self._elapsed_ns())

    def _limit_headers(self, room: LimitAnswer) -> Headers:
        if not self.limit.limit:
            return ()
        return (
            ("X-RateLimit-Limit", str(self.limit.limit)),
            ("X-RateLimit-Remaining", str(room.remaining)),
            ("X-RateLimit-Reset-After", f"{room.reset_ns // NS_PER_S}.{room.reset_ns % NS_PER_S:09d}"),
        )

    def _enter(self) -> None:
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)

    def _leave(self) -> None:
        self._in_flight -= 1

    def _gone(self) -> None:
        """Who has asked is not there any more, or was cut off."""
        self._leave()
        self._counts["abandoned"] += 1

    # -- to look at

    @property
    def served(self) -> dict[str, int]:
        """How often each id was served in full; of a page "conversation#cursor". Thread: any."""
        return dict(self._served)

    @property
    def asked(self) -> dict[str, int]:
        """How many requests for each id the rate limit let pass. Thread: any."""
        return dict(self._asked)

    @property
    def by_status(self) -> dict[int, int]:
        """How many answers had which status. Thread: any."""
        return self._server.by_status

    def statistics(self) -> dict[str, int]:
        """Since it was made: requests (that were read), and what became of each: served (in full), rate_limited,
        failed, poisoned, cut, abandoned (their connection ended first), silenced, unavailable (503 in an outage) or bad
        (400, 404, 405), unless it is in_flight (as the silenced ones of an outage that goes on are, too). Besides:
        most_in_flight, outages, relisten_failures, and counts of the server. Thread: any."""
        server = self._server.statistics()
        return {
            **self._counts,
            "in_flight": self._in_flight,
            "most_in_flight": self._most_in_flight,
            "connections": server["connections"],
            "most_connections": server["most_connections"],
            "accepted": server["accepted"],
            "refused": server["refused"],
            "handler_errors": server["handler_errors"],
        }

    def __repr__(self) -> str:
        state = "down" if self._outage is not None else "up" if self._server.up else "stopped"
        return f"<Hub {self.address} {state} plan={self._plan} in_flight={self._in_flight}>"


def _wanted(exchange: HttpExchange) -> tuple[str, str, dict[str, Any]] | HttpResponse:
    """What poison is looked for in, the id that is counted, and the content; or what is wrong with the request."""
    request = exchange.request
    match request.segments:
        case ("messages", ident) if ident:
            if request.method != "GET":
                return _error(NOT_ALLOWED, f"{request.method} is not allowed", (("Allow", "GET"),))
            return ident, ident, message_of(ident)
        case ("history",):
            if request.method != "POST":
                return _error(NOT_ALLOWED, f"{request.method} is not allowed", (("Allow", "POST"),))
            return _wanted_page(request.body)
        case _:
            return _error(NOT_FOUND, f"there is no {request.path}")


def _wanted_page(body: bytes) -> tuple[str, str, dict[str, Any]] | HttpResponse:
    try:
        asked = json.loads(body)
        conversation, cursor, limit = asked["conversation"], asked.get("cursor", 0), asked.get("limit", PAGE_SIZE)
        good = isinstance(conversation, str) and type(cursor) is int and type(limit) is int
    except (ValueError, TypeError, KeyError, AttributeError):
        good = False
    if not good or not conversation or cursor < 0 or not 1 <= limit <= LONGEST_CONVERSATION:
        return _error(BAD_REQUEST, 'expected {"conversation": ID, "cursor": 0.., "limit": 1..100}')
    return conversation, f"{conversation}#{cursor}", page_of(conversation, cursor, limit)


def _error(status: int, what: str, headers: Headers = ()) -> HttpResponse:
    return json_response(status, {"error": what}, headers)
