"""MetricsPage: what a run counts, as an OpenMetrics page on loopback.

Role: `http://127.0.0.1:PORT/metrics` for whoever watches a run. The source, a function that returns samples, is asked
once per visit, on the page's own task; samples of one name are one family. The text format is prometheus_client's, over
a registry of its own, so nothing of the process's default registry shows up here.

Thread: `start` and `stop` any, one at a time; the source is called on the page's task and must not block for long.
Upstream: none. Left out: histograms and summaries, time stamps, the older text format, compression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from coordemu.lab.http_exchange import HttpExchange
from coordemu.lab.http_host import HttpHost
from coordemu.lab.http_message import HttpResponse, text_response
from coordemu.lab.http_server import HttpServer
from coordemu.runtime.base import Address, Runtime

PATH = "/metrics"
# Not typed where it comes from.
_generate: Callable[[CollectorRegistry], bytes] = generate_latest
GAUGE, COUNTER = "gauge", "counter"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sample:
    """One number. name: letters, digits, "_" and ":", the unit last.  value: of a counter 0 or more.  kind: "gauge", or
    "counter" (its line is called name_total).  labels: (name, value), in any order, each name once.
    Raises ValueError outside of that."""

    name: str
    value: float
    kind: str = GAUGE
    help: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or (self.kind == COUNTER and self.name.endswith("_total")):
            raise ValueError(f"{self.name!r} is no name of a {self.kind}")
        if self.kind not in (GAUGE, COUNTER):
            raise ValueError(f"{self.name}: kind {self.kind!r} is neither gauge nor counter")
        if self.kind == COUNTER and not self.value >= 0:
            raise ValueError(f"{self.name}: a counter of {self.value}")
        names = [name for name, _ in self.labels]
        if len(set(names)) < len(names) or not all(map(_LABEL.fullmatch, names)):
            raise ValueError(f"{self.name}: labels {', '.join(names)}")


Source = Callable[[], Iterable[Sample]]


class _Families(Collector):
    """Samples as families, in the order of their first ones."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        families: dict[str, tuple[str, Metric]] = {}
        seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
        for sample in self._samples:
            kind = CounterMetricFamily if sample.kind == COUNTER else GaugeMetricFamily
            known = families.setdefault(sample.name, (sample.kind, kind(sample.name, sample.help)))
            if known[0] != sample.kind:
                raise ValueError(f"{sample.name} is a {known[0]} and a {sample.kind}")
            key = (sample.name, frozenset(sample.labels))
            if key in seen:
                raise ValueError(f"{sample.name} with labels {dict(sample.labels)} stands there twice")
            seen.add(key)
            suffix = "_total" if sample.kind == COUNTER else ""
            known[1].add_sample(sample.name + suffix, dict(sample.labels), sample.value)
        for _, family in families.values():
            yield family


def page_of(samples: Iterable[Sample]) -> bytes:
    """The page. Raises ValueError when a name is of two kinds, or a sample stands there twice. Thread: any."""
    registry = CollectorRegistry(auto_describe=False)
    # What asks the source comes first: the registry collects as soon as it is registered with.
    registry.register(_Families(list(samples)))
    return _generate(registry)


class MetricsPage:
    """A page, from `start` to `stop`. address: where to listen; port 0 finds a free one.  source: of the samples."""

    def __init__(self, rt: Runtime, address: Address, source: Source, name: str = "metrics") -> None:
        self.name = name
        self.visits = 0
        self._rt = rt
        self._address = address
        self._source = source
        self._host: HttpHost[HttpServer] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was found."""
        return self._address

    @property
    def url(self) -> str:
        """For a browser."""
        return f"http://{self._address}{PATH}"

    def start(self) -> Address:
        """Listen, with a task of its own. Returns the address. Does nothing when started.

        Raises PortTaken, or another OSError. Thread: any. May block: no.
        """
        if self._host is None:
            self._host = HttpHost(
                self._rt,
                self.name,
                lambda loop: HttpServer(self._rt, loop, self._address, self._handle, name=self.name),
            )
            self._address = self._host.address
        return self._address

    def stop(self) -> None:
        """End it. Idempotent. Blocks until its task has ended."""
        host, self._host = self._host, None
        if host is not None:
            host.stop()

    def _handle(self, exchange: HttpExchange) -> HttpResponse:
        request = exchange.request
        if request.path != PATH:
            return text_response(404, f"404 Not Found: the page is {PATH}")
        if request.method not in ("GET", "HEAD"):
            return text_response(405, "405 Method Not Allowed", (("Allow", "GET, HEAD"),))
        self.visits += 1
        # What the source raises the server answers with 500, and keeps.
        return HttpResponse(200, (("content-type", CONTENT_TYPE_LATEST),), page_of(self._source()))

    def statistics(self) -> dict[str, int]:
        """visits, and the server's counts while it runs. Thread: any."""
        return {"visits": self.visits, **(self._host.server.statistics() if self._host is not None else {})}

    def __repr__(self) -> str:
        return f"<MetricsPage {self.url} {'up' if self._host is not None else 'down'}>"
