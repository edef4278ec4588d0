"""Alerts: each rule fires within one evaluation of its time and not before, is over, and does not flap."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from counted_pools import Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from coordemu.pool.conn_pool import ConnPool
from coordemu.pool.pool_options import PoolOptions
from coordemu.resilience.alert_rule import AlertReadings, AlertRule, HeldRule, ShareRule
from coordemu.resilience.alerts import AlertEvent, Alerts
from coordemu.resilience.pool_pressure import PoolPressure
from coordemu.resilience.settings import AlertSettings
from coordemu.runtime.base import NS_PER_MS, NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

SETTINGS = AlertSettings()
QUIET = AlertReadings()
PRESSED = AlertReadings(pressure=0.81)
OPEN = AlertReadings(breaker_open=True)


def make(rules: tuple[AlertRule, ...] = SETTINGS.rules(), longest_gap_ns: int = 10 * NS_PER_S) -> Alerts:
    return Alerts(ThreadsRuntime(), rules, longest_gap_ns)


def every_second(
    alerts: Alerts, readings: Callable[[int], AlertReadings], until_s: int, from_s: int = 0
) -> list[AlertEvent]:
    """Evaluate at each whole second of the test's clock."""
    return [
        event for second in range(from_s, until_s + 1) for event in alerts.evaluate(second * NS_PER_S, readings(second))
    ]


def said(events: list[AlertEvent]) -> list[tuple[float, str, str]]:
    return [(event.at_ns / NS_PER_S, event.name, event.kind) for event in events]


# -- the four rules, each at its edge


def test_pressure_over_80_percent_for_over_a_minute() -> None:
    alerts = make()
    assert every_second(alerts, lambda second: PRESSED, 59) == []
    assert alerts.evaluate(60 * NS_PER_S, PRESSED) == []
    (event,) = alerts.evaluate(60 * NS_PER_S + 1, PRESSED)
    assert (event.name, event.kind, event.value, event.lasted_ns) == ("pressure", "fired", 0.81, 60 * NS_PER_S + 1)
    assert event.sentence == "pressure over 80% for over 60 s"
    assert alerts.active == ("pressure",)


def test_pressure_at_80_percent_is_not_over_it() -> None:
    assert every_second(make(), lambda second: AlertReadings(pressure=0.8), 200) == []


def test_a_moment_without_pressure_begins_the_minute_anew() -> None:
    events = every_second(make(), lambda second: QUIET if second == 50 else PRESSED, 200)
    assert said(events) == [(112.0, "pressure", "fired")]


def test_breaker_open_for_over_five_minutes() -> None:
    alerts = make()
    assert every_second(alerts, lambda second: OPEN, 300) == []
    assert said(alerts.evaluate(301 * NS_PER_S, OPEN)) == [(301.0, "breaker-open", "fired")]
    assert alerts.events[0].sentence == "breaker not closed for over 300 s"


@pytest.mark.parametrize(
    ("rule", "part", "most"), [("timeouts", "timeouts", 50), ("errors", "errors", 10)]
)  # of a thousand: 5 %, 1 %
def test_a_share_of_operations(rule: str, part: str, most: int) -> None:
    alerts = make()
    alerts.evaluate(0, QUIET)
    assert alerts.evaluate(NS_PER_S, AlertReadings(operations=1_000, **{part: most})) == []
    # One more, and an operation more: the first evaluation that sees it.
    (event,) = alerts.evaluate(2 * NS_PER_S, AlertReadings(operations=1_001, **{part: most + 1}))
    assert (event.name, event.kind) == (rule, "fired")
    assert event.value == pytest.approx(100 * (most + 1) / 1_001)


@pytest.mark.parametrize("part", ["timeouts", "errors"])
def test_a_share_of_too_few_is_none(part: str) -> None:
    alerts = make()
    alerts.evaluate(0, QUIET)
    assert alerts.evaluate(NS_PER_S, AlertReadings(operations=19, **{part: 19})) == []
    assert [event.name for event in alerts.evaluate(2 * NS_PER_S, AlertReadings(operations=20, **{part: 19}))] == [part]


def test_a_share_is_one_of_the_window() -> None:
    """A thousand good ones, a minute ago, hide nothing any more."""
    alerts = make()
    alerts.evaluate(0, QUIET)
    alerts.evaluate(NS_PER_S, AlertReadings(operations=1_000))
    events = every_second(alerts, lambda second: AlertReadings(operations=1_030, timeouts=30), 70, from_s=2)
    assert said(events) == [(61.0, "timeouts", "fired")]


def test_a_window_that_began_before_the_first_look_is_not_known() -> None:
    """Counters that have run for long say nothing of the last minute."""
    alerts = make()
    assert every_second(alerts, lambda second: AlertReadings(operations=1_000, timeouts=900), 10) == []


# -- their end, and no flapping


def test_an_alert_is_over_after_its_time_and_can_fire_again() -> None:
    alerts = make()
    events = every_second(alerts, lambda second: PRESSED if second <= 70 or second >= 90 else QUIET, 160)
    assert said(events) == [
        (61.0, "pressure", "fired"), (82.0, "pressure", "cleared"), (151.0, "pressure", "fired"),
    ]  # fmt: skip
    assert events[1].lasted_ns == 21 * NS_PER_S


def test_readings_about_the_mark_do_not_make_it_flap() -> None:
    alerts = make()
    every_second(alerts, lambda second: PRESSED, 61)
    assert alerts.active == ("pressure",)
    assert every_second(alerts, lambda second: PRESSED if second % 10 == 0 else QUIET, 600, from_s=62) == []


def test_a_share_clears_when_its_window_has_passed() -> None:
    alerts = make()
    alerts.evaluate(0, QUIET)
    events = every_second(alerts, lambda second: AlertReadings(operations=100, timeouts=50), 120, from_s=1)
    assert said(events) == [(1.0, "timeouts", "fired"), (72.0, "timeouts", "cleared")]


def test_a_rule_with_no_times_says_each_change() -> None:
    alerts = make((HeldRule("now", "breaker_open", 0, for_ns=0, clear_ns=0),))
    events = every_second(alerts, lambda second: OPEN if second % 2 else QUIET, 5)
    assert [event.kind for event in events] == ["fired", "cleared", "fired", "cleared", "fired"]
    assert alerts.rules[0].sentence == "breaker not closed"


# -- clocks and evaluations that are not as they should be


def test_a_clock_that_jumps_ahead_fires_nothing_before_its_time() -> None:
    alerts = make()
    every_second(alerts, lambda second: PRESSED, 30)
    hour_ns = 3_600 * NS_PER_S
    assert alerts.evaluate(hour_ns, PRESSED) == []  # 40 s, as far as is believed
    assert [alerts.evaluate(hour_ns + second * NS_PER_S, PRESSED) for second in range(1, 21)] == [[]] * 20
    assert len(alerts.evaluate(hour_ns + 21 * NS_PER_S, PRESSED)) == 1
    assert alerts.statistics()["gaps"] == 1


def test_a_clock_that_goes_back_stands_still() -> None:
    alerts = make()
    every_second(alerts, lambda second: PRESSED, 30, from_s=0)
    assert alerts.evaluate(-(10**18), PRESSED) == []
    events = [alerts.evaluate(-(10**18) + second * NS_PER_S, PRESSED) for second in range(1, 32)]
    assert events[:30] == [[]] * 30
    assert [event.name for event in events[30]] == ["pressure"]
    assert alerts.statistics()["steps_back"] == 1


def test_missing_evaluations_make_it_late_by_what_is_missing() -> None:
    alerts = make()
    events = every_second(alerts, lambda second: PRESSED, 30)
    # Within the gap that is believed nothing is lost ...
    assert alerts.evaluate(40 * NS_PER_S, PRESSED) == []
    assert alerts.evaluate(50 * NS_PER_S, PRESSED) == []
    assert alerts.evaluate(60 * NS_PER_S, PRESSED) == []
    assert said(alerts.evaluate(61 * NS_PER_S, PRESSED)) == [(61.0, "pressure", "fired")]
    # ... and the end of an alert is not taken for granted either.
    assert alerts.evaluate(62 * NS_PER_S, QUIET) == []
    assert alerts.evaluate(1_000 * NS_PER_S, QUIET) == []
    assert said(alerts.evaluate(1_001 * NS_PER_S, QUIET)) == [(1_001.0, "pressure", "cleared")]
    assert events == []


def test_the_same_time_twice_is_no_time() -> None:
    alerts = make((HeldRule("soon", "breaker_open", 0, for_ns=5),))
    for _ in range(10):
        assert alerts.evaluate(7, OPEN) == []
    assert alerts.evaluate(12, OPEN) == []
    assert len(alerts.evaluate(13, OPEN)) == 1


# -- in virtual time, over a real pool


def test_the_pressure_of_a_pool_in_virtual_time(sim) -> None:
    fired: list[AlertEvent] = []

    def main() -> None:
        pool = ConnPool(sim, lambda timeout_ns: Wire(), PoolOptions(pool_size=5))
        pressure = PoolPressure(sim, lambda: {"a": pool})
        alerts = Alerts(sim, SETTINGS.rules())

        def work() -> None:
            sim.sleep_ns(7_500 * NS_PER_MS)
            conns = [pool.get() for _ in range(5)]
            sim.sleep_ns(80 * NS_PER_S)
            for conn in conns:
                pool.put(conn)

        task = sim.spawn(work, name="work")
        for _ in range(120):
            fired.extend(alerts.evaluate(sim.now_ns(), AlertReadings(pressure=pressure.look().highest)))
            sim.sleep_ns(NS_PER_S)
        task.join()
        pool.close()

    began_ns = sim.now_ns()
    sim.run(main).check()
    # Full from 7.5 s on, seen at 8 s; given back at 87.5 s, seen at 88 s.
    assert [((event.at_ns - began_ns) / NS_PER_S, event.kind) for event in fired] == [(69, "fired"), (99, "cleared")]


# -- beside a model


class Model:
    """One held rule by its definition, over the list of all evaluations."""

    def __init__(self, rule: HeldRule, longest_gap_ns: int) -> None:
        self.rule, self.longest_gap_ns = rule, longest_gap_ns
        self.seen: list[tuple[int, bool]] = []
        self.fired = False

    def evaluate(self, now_ns: int, held: bool) -> bool:
        """Whether the state changes."""
        self.seen.append((now_ns, held))
        same = len(self.seen) - 1
        while same and self.seen[same - 1][1] == held:
            same -= 1
        times = [at_ns for at_ns, _ in self.seen[same:]]
        lasted = sum(min(max(0, b - a), self.longest_gap_ns) for a, b in pairwise(times))
        enough = self.rule.clear_ns if self.fired else self.rule.for_ns
        changes = held != self.fired and (lasted > enough or enough == 0)
        self.fired ^= changes
        return changes


@settings(deadline=None)
@given(
    st.integers(0, 30), st.integers(0, 30), st.integers(1, 20),
    st.lists(st.tuples(st.integers(-10, 40), st.booleans()), max_size=80),
)  # fmt: skip
def test_as_the_model_has_it(for_ns: int, clear_ns: int, gap_ns: int, steps: list[tuple[int, bool]]) -> None:
    rule = HeldRule("rule", "breaker_open", 0, for_ns, clear_ns)
    alerts, model, now_ns = make((rule,), gap_ns), Model(rule, gap_ns), 0
    for passed_ns, held in steps:
        now_ns += passed_ns
        events = alerts.evaluate(now_ns, AlertReadings(breaker_open=held))
        assert len(events) == model.evaluate(now_ns, held)
        assert bool(alerts.active) == model.fired
    kinds = [event.kind for event in alerts.events]
    assert kinds == ["fired" if number % 2 == 0 else "cleared" for number in range(len(kinds))]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 10_000), st.sampled_from([0.29, 1.0, 1.1, 4.35, 5.0, 33.3, 100.0]))
def test_a_share_at_the_mark_is_not_over_it(part: int, whole: int, percent: float) -> None:
    rule = ShareRule("share", "errors", percent, 1, minimum=1)
    tenth_of_a_thousandth = round(percent * 100)
    assert rule.is_over(part, whole) is (part * 10_000 > tenth_of_a_thousandth * whole)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: HeldRule("r", "temperature", 1, 1), "temperature"),
        (lambda: HeldRule("r", "pressure", 1, -1), "below 0"),
        (lambda: ShareRule("r", "guesses", 1, 1), "guesses"),
        (lambda: ShareRule("r", "errors", 101, 1), "0..100"),
        (lambda: ShareRule("r", "errors", 1, 0), "window_ns 0"),
        (lambda: make((HeldRule("r", "pressure", 1, 1), HeldRule("r", "pressure", 1, 1))), "two rules"),
        (lambda: make((), 0), "longest_gap_ns 0"),
    ],
)
def test_bounds(bad: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bad()


def test_plain_values_for_a_report() -> None:
    alerts = make()
    alerts.evaluate(0, QUIET)
    (event,) = alerts.evaluate(1, AlertReadings(operations=100, errors=2))
    assert event.to_json() == {
        "at_ns": 1, "name": "errors", "kind": "fired", "value": 2.0, "lasted_ns": 0,
        "sentence": "errors over 1 % in 60 s",
    }  # fmt: skip
    assert alerts.statistics() == {"evaluations": 2, "fired": 1, "cleared": 0, "gaps": 0, "steps_back": 0}
    assert repr(alerts) == "<Alerts 'alerts' 4 rules, 1 active>"
