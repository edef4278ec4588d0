"""Subjects by description: what a schedule file, or a process that searches a range of orders, makes its subject from.

Role: the way back from `Subject.describe`. It is the one place that knows every kind that can be made from plain
values; a program of a test, which only the test has, is not among them.

Thread: pure. Upstream: none. Left out: invariants, which are functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordemu.coord.resize_policy import ResizePolicy
from coordemu.explore.order import Subject
from coordemu.lab.client_pool_subject import (
    CLIENT_POOL_KIND,
    CLIENT_POOL_SCENARIOS,
    ClientPoolSubject,
    get_client_pool_scenario,
)
from coordemu.lab.order_run import KIND, CoordinatorSubject
from coordemu.lab.order_scenario import ORDER_SCENARIOS, OrderScenario, get_order_scenario
from coordemu.lab.thpool_subject import (
    THPOOL_KIND,
    THPOOL_SCENARIOS,
    ThpoolScenario,
    ThpoolSubject,
    get_thpool_scenario,
)
from coordemu.runtime.sim_schedule import ScheduleError

__all__ = [
    "CLIENT_POOL_SCENARIOS",
    "ORDER_SCENARIOS",
    "THPOOL_SCENARIOS",
    "get_client_pool_scenario",
    "get_order_scenario",
    "get_thpool_scenario",
    "subject_from",
]


def subject_from(description: Mapping[str, Any]) -> Subject:
    """The subject that `describe` told of. Raises ScheduleError, a ValueError with one line, when it can't be made."""
    kind = description.get("kind") if isinstance(description, Mapping) else None
    if kind == "program":
        raise ScheduleError(f"the order is of the program {description.get('name')!r}: only its test can play it")
    if kind == "pytest":
        raise ScheduleError(
            f"the order is of a test; play it by: pytest {description.get('name')} --coordemu-replay=FILE"
        )
    if kind not in (KIND, THPOOL_KIND, CLIENT_POOL_KIND):
        raise ScheduleError(
            f"the order is of a subject of kind {kind!r}, which is none of {KIND!r}, {THPOOL_KIND!r}, "
            f"{CLIENT_POOL_KIND!r}, 'program'"
        )
    try:
        faults = tuple(description.get("faults", ()))
        if kind == CLIENT_POOL_KIND:
            return ClientPoolSubject(str(description["recipe"]), faults)
        if kind == THPOOL_KIND:
            return ThpoolSubject(ThpoolScenario.from_json(description["scenario"]), description["reduce"], faults)
        scenario = OrderScenario.from_json(description["scenario"])
        fields = dict(description["policy"])
        policy = ResizePolicy(**{**fields, "order": tuple(fields["order"])})
        return CoordinatorSubject(scenario, policy, faults)
    except KeyError as err:
        raise ScheduleError(f"the description of the subject has no {err}") from None
    except (TypeError, ValueError) as err:
        raise ScheduleError(f"the subject can't be made: {err}") from None
