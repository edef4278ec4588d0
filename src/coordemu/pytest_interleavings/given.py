"""Given: a test of Hypothesis' in the simulator: every example in many orders.

Role: Hypothesis draws an example, and the search plays its orders; one that fails fails the example, and Hypothesis
makes the example small by searching again. At the end it plays the smallest once more, and the order that fails then is
what is made small and told. So examples stand outside, orders inside, and each order is played with values that do
not change.

Thread: pytest's. Upstream: none. Left out: `data()`, whose draws would come anew in each order. Hypothesis wants two
settings for such a test: `deadline=None`, for an example takes as long as its orders, and
`suppress_health_check=[HealthCheck.function_scoped_fixture]`, for the fixtures are set up once.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from coordemu.pytest_interleavings.item_subject import ItemSubject
from coordemu.pytest_interleavings.stage import OnStage
from coordemu.pytest_interleavings.trial import Trial, raise_failure


class Shown:
    """What Hypothesis gets to see of a fixture's stand-in, which it would ask for all sorts of attributes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def is_given(item: pytest.Function) -> bool:
    """Whether Hypothesis gives the test its arguments."""
    return bool(getattr(item.obj, "is_hypothesis_test", False))


def try_examples(item: pytest.Function, subject: ItemSubject, trial: Trial) -> None:
    """Have Hypothesis run the test, with a search for each example. Raises what Hypothesis does."""
    from hypothesis.control import current_build_context
    from hypothesis.errors import HypothesisException, StopTest

    handle = item.obj.hypothesis
    function = handle.inner_test

    @functools.wraps(function)
    def try_example(*args: Any, **values: Any) -> None:
        __tracebackhide__ = True
        real = {name: subject.values.get(name, value) for name, value in values.items()}
        example = subject.with_example(function, args, real, (HypothesisException, StopTest))
        failed = trial.look(example)
        if failed is not None:
            # What is told must be played while Hypothesis plays the example, or `assume` and `note` complain.
            final = getattr(current_build_context(), "is_final", False)
            raise_failure(trial.explain() or failed if final else failed)

    shown = {
        name: Shown(repr(value)) if isinstance(value, OnStage) else value for name, value in subject.values.items()
    }
    handle.inner_test = try_example
    try:
        item.obj(**shown)
    finally:
        handle.inner_test = function
    trial.check_replayed()
