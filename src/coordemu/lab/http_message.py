"""HttpRequest and HttpResponse: one message each, complete, as plain values.

Role: what the server hands to its handler and the client to its caller; the bytes of both are h11's business.
Bodies are in memory as a whole, within the bounds of whoever reads them.

Thread: frozen, any. Upstream: none. Left out: trailers, streams, cookies, encodings of content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

Headers = tuple[tuple[str, str], ...]
# A proxy's client sends the whole URL.
_ORIGIN = re.compile(r"https?://[^/?]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What a client asked. target: as it was sent, "/path?query".  headers: in their order, names in lower case."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path alone, still quoted."""
        return _ORIGIN.sub("", self.target, count=1).partition("?")[0]

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's parts, each unquoted: "/a/b%2Fc" is ("a", "b/c")."""
        return tuple(unquote(part) for part in self.path.split("/")[1:])

    @property
    def query(self) -> dict[str, str]:
        """The query's values, the last of each name."""
        return {name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()}

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return find_header(self.headers, name)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer. status: 200 to 599.  headers: of a server's answer, without those that say how the body is framed and
    what becomes of the connection: the server writes them.  body: empty where the status has none."""

    status: int
    headers: Headers = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return find_header(self.headers, name)

    def json(self) -> Any:
        """The body as JSON. Raises ValueError when it is none."""
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The status in words."""
        return reason_of(self.status)


def find_header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first header of that name, in any case; None when there is none. Thread: any."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


def reason_of(status: int) -> str:
    """A status in words; "" for one that nobody has named. Thread: any."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def json_response(status: int, value: Mapping[str, Any], headers: Headers = ()) -> HttpResponse:
    """An answer whose body is JSON. Thread: any."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return HttpResponse(status, (("content-type", "application/json"), *headers), body)


def text_response(status: int, text: str, headers: Headers = ()) -> HttpResponse:
    """An answer for people: one line of text. Thread: any."""
    return HttpResponse(status, (("content-type", "text/plain; charset=utf-8"), *headers), f"{text}\n".encode())
