"""What the tests of the benchmarks share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def short_turns() -> Iterator[None]:
    """Beside busy threads every turn is one switch interval: at its 5 ms the smallest size of the drain takes 20 s."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    yield
    sys.setswitchinterval(before)
