"""Tests that are played in many orders: the pytest plugin's mark, options and reports.

    import pytest

    @pytest.mark.interleavings(n=200)
    def test_shrink(sim_coordinator, sim_client):
        sim_coordinator(workers=2, policy="upstream-7410")
        operator, client = sim_client(), sim_client()
        query = client.send("FT.SEARCH", "idx", "q1", "LOAD", 100)
        assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
        assert query.wait() == [b"q1", 1]

A test that takes `sim_rt`, `sim_coordinator` or `sim_client` is played in the simulator: its body is the main task, on
a runtime of its own in each order, in virtual time. Without the mark it is played once. It fails when any order ends
in an exception (of any task), in a deadlock, or not at all; the first such order is shrunk, saved and shown.

The mark: n (how many orders), strategy, seed, clock ("idle" or "explored"; None: both, as the strategy likes) and
expect ("deadlocked", "error" or "livelock": the test passes when such an order is found, and fails when none is).
Strategies "dpor" and "dfs" go through all orders, up to n. On the explored clock a time limit may run out although what
it waits for is on its way, as on a busy machine; on the idle clock time passes only when nothing else can go on.

What is new in every order: sim_rt, sim_coordinator, sim_client and all that the body makes. What is not: other
fixtures, of whatever scope, and the instance of a test class. They are set up once and shared; a fixture that uses
`sim_rt` while it is set up is refused. `parametrize` combines: each set of parameters is a test of its own.
Hypothesis' `@given` does too, with every example played in n orders; see `coordemu.pytest_interleavings.given`.

Role: the hooks. Thread: pytest's. Upstream: none. Left out: async tests.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from coordemu.explore.schedule_file import ScheduleFile
from coordemu.pytest_interleavings.fixtures import coordemu_rt, sim_client, sim_coordinator, sim_rt
from coordemu.pytest_interleavings.settings import MARK_HELP, ORDERS
from coordemu.pytest_interleavings.trial import SECTION, ReplayFile
from coordemu.pytest_interleavings.turn import REPLAY, take_turn
from coordemu.runtime.sim_schedule import ScheduleError

__all__ = ["coordemu_rt", "sim_client", "sim_coordinator", "sim_rt"]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(text)
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit():
        raise ValueError(text)
    return int(text)


def _is_of_the_test(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    return not excinfo.errisinstance(pytest.fail.Exception)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, and what an ini file may hold."""
    group = parser.getgroup("coordemu", "orders of tests in the simulator")
    group.addoption("--coordemu-seed", type=_seed, metavar="N", help="seed of every search, instead of the marks'")
    group.addoption("--coordemu-schedules", type=_count, metavar="N", help="orders of every marked test")
    group.addoption("--coordemu-replay", metavar="FILE", help="play the order of FILE, and no other, in its test")
    group.addoption("--coordemu-save", metavar="DIR", help="where orders that fail are written [pytest's cache]")
    parser.addini("coordemu_seed", "seed of searches whose mark gives none [0]", default="")
    parser.addini("coordemu_schedules", f"orders of a test whose mark gives none [{ORDERS}]", default="")
    parser.addini("coordemu_save", "where orders that fail are written, from the root of the project", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark; read the file that is to be replayed. Raises UsageError, one line, for a bad one."""
    config.addinivalue_line("markers", MARK_HELP)
    path = config.getoption("coordemu_replay")
    if path is not None:
        try:
            config.stash[REPLAY] = ReplayFile(path, ScheduleFile.load(path))
        except ScheduleError as error:
            raise pytest.UsageError(f"--coordemu-replay: {error}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Play a test of the simulator; leave any other alone."""
    # A traceback begins with the test; a failure of one line has none, and this frame is what pytest finds of it.
    __tracebackhide__ = _is_of_the_test
    return True if take_turn(pyfuncitem) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the section into the report of the call."""
    report = yield
    said = item.stash.get(SECTION, None)
    if call.when == "call" and said is not None:
        report.sections.append(said)
    return report
