"""The metrics page: read back by prometheus_client's own parser, fetched over both runtimes and by urllib."""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from coordemu.lab.http_client import HttpConn
from coordemu.lab.http_message import HttpResponse
from coordemu.lab.http_server import PortTaken
from coordemu.lab.metrics_page import COUNTER, GAUGE, MetricsPage, Sample, page_of
from coordemu.runtime.base import NS_PER_S, Address, Runtime

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def read(page: bytes) -> dict[str, tuple[str, str, dict[frozenset[tuple[str, str]], float]]]:
    """By family: its kind, its help, and its numbers by labels."""
    text = page.decode()
    assert text.endswith("# EOF\n")
    return {
        family.name: (
            family.type,
            family.documentation,
            {frozenset(sample.labels.items()): sample.value for sample in family.samples},
        )
        for family in text_string_to_metric_families(text)
    }


def get(rt: Runtime, page: MetricsPage, path: str = "/metrics", method: str = "GET") -> HttpResponse:
    conn = HttpConn(rt, page.address, NS_PER_S)
    try:
        return conn.request(method, path, timeout_ns=10 * NS_PER_S)
    finally:
        conn.close()


def test_the_page_shows_what_the_source_says_now(rt: Runtime) -> None:
    done = 0

    def source() -> list[Sample]:
        return [
            Sample("backfill_messages", done, COUNTER, "Messages by outcome", (("outcome", "done"),)),
            Sample("pool_pressure", 0.25, help="Share in use"),
            Sample("backfill_messages", 1, COUNTER, "Messages by outcome", (("outcome", 'dead "lettered"\n\\'),)),
        ]

    with MetricsPage(rt, Address(), source) as page:
        for done in (3, 4):
            answer = get(rt, page)
            assert (answer.status, answer.header("content-type")) == (200, OPENMETRICS)
            assert read(answer.body) == {
                "backfill_messages": (
                    "counter",
                    "Messages by outcome",
                    {
                        frozenset({("outcome", "done")}): done,
                        frozenset({("outcome", 'dead "lettered"\n\\')}): 1,
                    },
                ),
                "pool_pressure": ("gauge", "Share in use", {frozenset(): 0.25}),
            }
        assert page.visits == 2
        assert page.statistics()["answers"] == 2


def test_other_paths_and_methods(rt: Runtime) -> None:
    with MetricsPage(rt, Address(), list) as page:
        assert read(get(rt, page).body) == {}
        assert get(rt, page, "/").status == 404
        assert get(rt, page, "/metrics?x=1").status == 200
        refused = get(rt, page, method="POST")
        assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")
        head = get(rt, page, method="HEAD")
        assert (head.status, head.body, head.header("content-length")) == (200, b"", "6")
        assert page.visits == 3


def test_a_source_that_raises_is_said_and_the_page_lives_on(rt: Runtime) -> None:
    wrong: list[Any] = [KeyError("no pool yet")]

    def source() -> list[Sample]:
        if wrong:
            raise wrong.pop()
        return []

    with MetricsPage(rt, Address(), source) as page:
        answer = get(rt, page)
        assert answer.status == 500
        assert b"no pool yet" in answer.body
        assert get(rt, page).status == 200


def test_the_source_may_wait_for_a_lock_of_the_run(rt: Runtime) -> None:
    lock = rt.lock("counts")

    def source() -> list[Sample]:
        with lock:
            return [Sample("one", 1)]

    with MetricsPage(rt, Address(), source) as page:
        results: list[HttpResponse] = []
        with lock:
            task = rt.spawn(lambda: results.append(get(rt, page)), name="visitor")
            assert rt.poll_until(lambda: lock.waiters(), 1_000_000, "the page waits", 10 * NS_PER_S)
        task.join()
        assert results[0].status == 200


def test_a_port_that_is_taken(rt: Runtime, until: Callable[..., None]) -> None:
    with MetricsPage(rt, Address(), list) as page:
        other = MetricsPage(rt, page.address, list)
        with pytest.raises(PortTaken, match=r"^127\.0\.0\.1:\d+ is taken: something listens there already$"):
            other.start()
        other.stop()
        assert len([task for task in rt.tasks() if task.name == "metrics"]) == 1
        assert page.start() == page.address
    page.stop()
    with other:
        assert get(rt, other).status == 200
        assert other.url == f"http://{page.address}/metrics"
    assert "down" in repr(other)
    assert other.statistics() == {"visits": 1}


def test_urllib_reads_it_and_the_default_registry_stays_out(rt_threads: Runtime) -> None:
    with MetricsPage(rt_threads, Address(), lambda: [Sample("one", 1)]) as page:
        with urllib.request.urlopen(page.url, timeout=10) as answer:
            assert answer.headers["Content-Type"] == OPENMETRICS
            assert set(read(answer.read())) == {"one"}
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://{page.address}/", timeout=10)
        refused.value.close()
    assert "one" not in {metric.name for metric in REGISTRY.collect()}


# -- the text


NAMES = st.from_regex(r"\A[a-z_][a-z0-9_]{0,9}\Z").filter(
    lambda name: not name.endswith(("_total", "_created", "_info"))
)
LABELS = st.dictionaries(
    st.from_regex(r"\A[a-z][a-z0-9_]{0,5}\Z"), st.text(st.characters(codec="utf-8"), max_size=9), max_size=3
)
VALUES = st.integers(0, 10**12) | st.floats(0, allow_nan=False)


@given(
    st.dictionaries(
        NAMES,
        st.tuples(
            st.sampled_from([GAUGE, COUNTER]),
            st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"]), max_size=20),
            st.lists(
                st.tuples(LABELS, VALUES), min_size=1, max_size=3, unique_by=lambda each: frozenset(each[0].items())
            ),
        ),
        max_size=4,
    )
)
def test_what_is_written_is_what_is_read(
    families: dict[str, tuple[str, str, list[tuple[dict[str, str], float]]]],
) -> None:
    clash = {name + suffix for name in families for suffix in ("_total", "_created")}
    if clash & set(families):
        return
    samples = [
        Sample(name, value, kind, text, tuple(labels.items()))
        for name, (kind, text, entries) in families.items()
        for labels, value in entries
    ]
    assert read(page_of(samples)) == {
        name: (kind, text, {frozenset(labels.items()): float(value) for labels, value in entries})
        for name, (kind, text, entries) in families.items()
    }


def test_gauges_may_be_anything() -> None:
    page = page_of([Sample("a", -1.5), Sample("b", math.inf), Sample("c", math.nan)])
    values = {name: next(iter(family[2].values())) for name, family in read(page).items()}
    assert values["a"] == -1.5
    assert values["b"] == math.inf
    assert math.isnan(values["c"])


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"name": "1a"},
        {"name": "a b"},
        {"name": "a", "kind": "histogram"},
        {"name": "a_total", "kind": COUNTER},
        {"name": "a", "kind": COUNTER, "value": -1},
        {"name": "a", "kind": COUNTER, "value": math.nan},
        {"name": "a", "labels": (("b", "1"), ("b", "2"))},
        {"name": "a", "labels": (("b c", "1"),)},
    ],
)
def test_what_is_no_sample(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Sample(**{"value": 0.0, **values})


def test_samples_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="a is a gauge and a counter"):
        page_of([Sample("a", 1), Sample("a", 1, COUNTER)])
    with pytest.raises(ValueError, match="stands there twice"):
        page_of([Sample("a", 1, labels=(("x", "1"), ("y", "2"))), Sample("a", 2, labels=(("y", "2"), ("x", "1")))])
