"""The Hub's plan: its text form and back, what holds when, and one clear line for what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coordemu.lab.duration import MAX_NS
from coordemu.lab.hub_plan import CALM, OUTAGE_MODES, PPM, HubPlan, Outage, Slowness, Span
from coordemu.runtime.base import NS_PER_MS, NS_PER_S

SPANS = st.builds(Span, st.integers(0, MAX_NS), st.integers(1, MAX_NS))


def apart(spans: list[Span]) -> bool:
    return not any(a.start_ns < b.end_ns and b.start_ns < a.end_ns for i, a in enumerate(spans) for b in spans[i + 1 :])


@st.composite
def plans(draw: st.DrawFn) -> HubPlan:
    """Any plan there may be."""
    outages = draw(st.lists(st.builds(Outage, SPANS, st.sampled_from(OUTAGE_MODES)), max_size=2))
    slow = draw(st.lists(st.builds(Slowness, SPANS, st.integers(1, 1_000)), max_size=2))
    assume(apart([each.span for each in outages]) and apart([each.span for each in slow]))
    return HubPlan(
        latency_ns=draw(st.integers(0, MAX_NS)),
        jitter_ns=draw(st.integers(0, MAX_NS)),
        fail_ppm=draw(st.integers(0, PPM)),
        fail_statuses=tuple(draw(st.lists(st.integers(500, 599), min_size=1, max_size=3, unique=True))),
        cut_ppm=draw(st.integers(0, PPM)),
        slow=tuple(slow),
        outages=tuple(outages),
        poison=tuple(draw(st.lists(st.from_regex(r"\A[a-z0-9*?\[\]!:./#_-]{1,8}\Z"), max_size=3))),
    )


@given(plans())
def test_a_plan_is_read_back_from_its_text(plan: HubPlan) -> None:
    assert HubPlan.parse(str(plan)) == plan
    assert "\n" not in str(plan)


@given(
    st.text(st.characters(codec="utf-8"), max_size=40) | st.text("\nlatencyjilfowpsk=:,@/x%|.0123456789ms", max_size=40)
)
def test_any_other_text_is_one_clear_line(text: str) -> None:
    plan, said = None, ""
    try:
        plan = HubPlan.parse(text)
    except ValueError as error:
        said = str(error)
    if plan is not None:
        assert HubPlan.parse(str(plan)) == plan
    else:
        assert said.startswith("hub plan: ")
        assert len(said.splitlines()) == 1


def test_texts_and_what_they_mean() -> None:
    assert HubPlan.parse("") == HubPlan.parse("none") == HubPlan.parse(" ") == CALM
    assert str(CALM) == "none"
    text = "latency=20ms,jitter=5ms,fail=2.5%:500/503,cut=1%,slow=8x:30s@10s,outage=20s@10s,outage=5s@1000s/silence"
    plan = HubPlan.parse(text + ",poison=m-13|bad-*")
    assert plan == HubPlan(
        latency_ns=20 * NS_PER_MS,
        jitter_ns=5 * NS_PER_MS,
        fail_ppm=25_000,
        fail_statuses=(500, 503),
        cut_ppm=10_000,
        slow=(Slowness(Span(10 * NS_PER_S, 30 * NS_PER_S), 8),),
        outages=(Outage(Span(10 * NS_PER_S, 20 * NS_PER_S)), Outage(Span(1_000 * NS_PER_S, 5 * NS_PER_S), "silence")),
        poison=("m-13", "bad-*"),
    )
    assert str(plan) == text + ",poison=m-13|bad-*"
    assert HubPlan.parse(" latency = 1s ".replace(" = ", "=")).latency_ns == NS_PER_S
    assert HubPlan.parse("fail=0%:502").fail_statuses == (502,)
    assert HubPlan.parse("fail=100%").fail_ppm == PPM
    assert len(HubPlan.parse("outage=5s@10s,outage=1s@15s/503,outage=1s@9s").outages) == 3  # one after the other
    assert HubPlan.parse("fail=0.0001%").fail_ppm == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("latency", "hub plan: 'latency': '' is no duration"),
        ("latency=5", "'latency=5': '5' is no duration"),
        ("latency=2000h", "is no duration"),
        ("latency=3601s", "longer than an hour"),
        ("latency=1s,latency=2s", "latency is given twice"),
        ("fail=5%,fail=6%", "fail is given twice"),
        ("fail=5", "'fail=5': '5' is no share; write for example 5%"),
        ("fail=101%", "fail=101% is not within 0%..100%"),
        ("fail=5%:", "'' are no statuses"),
        ("fail=5%:404", "fail statuses 404: each is within 500..599"),
        ("fail=5%:500/500", "stands once"),
        ("cut=-1%", "is no share"),
        ("slow=8x", "expected slow=FACTORx:SPAN, as in slow=8x:30s@10s"),
        ("slow=0x:1s@1s", "slow=0x is not within 1x..1000x"),
        ("slow=2x:10s@0,slow=3x:1s@9s", "hub plan: slow 10s@0 and slow 1s@9s overlap"),
        ("outage=20s", "'20s' is no span; write for example 20s@10s"),
        ("outage=0@10s", "lasts more than 0"),
        ("outage=20s@10s/maybe", "an outage's mode 'maybe' is none of refuse, 503, silence"),
        ("outage=20s@10s/", "an outage's mode '' is none of"),
        ("outage=5s@10s,outage=1s@14s/503", "hub plan: outage 5s@10s and outage 1s@14s overlap"),
        ("poison=", "a pattern is made of"),
        ("poison=a|", "a pattern is made of"),
        ("poison=a b", "a pattern is made of"),
        ("latenzy=5ms", "'latenzy=5ms' is none of latency, jitter, fail, cut, slow, outage, poison"),
        (",", "'' is none of latency"),
    ],
)
def test_what_makes_no_sense_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"^hub plan: ") as caught:
        HubPlan.parse(text)
    assert says in str(caught.value)


def test_bounds_hold_for_values_too() -> None:
    wrong: list[dict[str, Any]] = [{"latency_ns": -1}, {"jitter_ns": MAX_NS + 1}, {"cut_ppm": PPM + 1}]
    for values in [*wrong, {"fail_statuses": ()}]:
        with pytest.raises(ValueError, match="hub plan"):
            HubPlan(**values)


@given(plans(), st.integers(0, 2 * MAX_NS))
def test_what_holds_at_a_moment(plan: HubPlan, at_ns: int) -> None:
    outage = plan.outage_at(at_ns)
    holding = [
        each for each in plan.outages if each.span.start_ns <= at_ns < each.span.start_ns + each.span.duration_ns
    ]
    assert [outage] == holding or (outage is None and not holding)
    factors = [each.factor for each in plan.slow if each.span.start_ns <= at_ns < each.span.end_ns]
    assert plan.slow_factor_at(at_ns) == (factors or [1])[0]
    change_ns = plan.next_change_ns(at_ns)
    if change_ns is None:
        assert outage is None
    else:
        assert change_ns > 0
        assert plan.outage_at(at_ns + change_ns - 1) == outage
        after = plan.outage_at(at_ns + change_ns)
        # Two outages may follow each other, of one mode even; each has its own span.
        assert after != outage
    if at_ns >= plan.all_clear_ns:
        assert outage is None
        assert plan.slow_factor_at(at_ns) == 1


def test_poison_is_a_pattern() -> None:
    plan = HubPlan.parse("poison=m-13|bad-*|x[12]")
    assert [plan.is_poison(ident) for ident in ("m-13", "m-130", "bad-", "bad-9", "x2", "x3", "M-13")] == [
        True, False, True, True, True, False, False,
    ]  # fmt: skip


def test_an_outage_is_read_alone() -> None:
    outage = Outage.parse("20s@10s/503")
    assert (outage.span.start_ns, outage.span.end_ns, outage.mode) == (10 * NS_PER_S, 30 * NS_PER_S, "503")
    assert str(outage) == "20s@10s/503"
