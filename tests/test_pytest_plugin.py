"""The two fixtures, in a test suite of somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest_plugins = ["pytester"]

RunTests = Callable[[str], pytest.RunResult]


@pytest.fixture
def run_tests(pytester: pytest.Pytester, footprint: Any) -> RunTests:
    """`run_tests(source)`: in a pytest process of its own, whether or not the package is installed."""

    def run(source: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess(
            "-p", "no:coordemu", "-p", "coordemu.pytest_plugin", "-p", "no:cacheprovider", "-W", "error", timeout=50
        )

    return run


def test_both_fixtures(run_tests: RunTests) -> None:
    result = run_tests("""
        import threading

        import psutil
        import pytest

        from coordemu.coord.resize_policy import get_policy
        from coordemu.lab.child import RunError
        from coordemu.lab.operator import Operator
        from coordemu.lab.scenario import ScenarioError
        from coordemu.runtime.threads import ThreadsRuntime

        QUICK = {"workers": (3, 0), "clients": 3, "latency": "10ms", "warm_ms": 20, "after_ms": 20}
        SLOW = {**QUICK, "latency": "300ms"}  # the replies are still to come when the connections go


        def test_a_run(coordemu_run):
            result = coordemu_run("mod-11658", "upstream-7410", lock_share=1.0, **QUICK)
            assert (result.verdict, result.queries.lost) == ("healthy", 0)
            assert result.policy["name"] == "upstream-7410"


        def test_a_policy_of_ones_own(coordemu_run):
            result = coordemu_run(policy=get_policy("upstream-7410").override(stop="drop", reduce="handoff"), **SLOW)
            assert result.policy["stop"] == "drop"
            assert result.queries.lost > 0


        def test_what_can_not_be_run(coordemu_run):
            with pytest.raises(ScenarioError, match="clients 0"):
                coordemu_run(clients=0)
            with pytest.raises(RunError, match="Connection refused"):
                coordemu_run(shards="redis://127.0.0.1:1")


        def test_a_coordinator(coordemu_coordinator):
            coordinator = coordemu_coordinator(2, "shrink-drain-event", "embedded:2", io_threads=2)
            assert coordinator.connected()
            assert coordinator.cluster.conns_per_node == 2
            operator = Operator(ThreadsRuntime(), coordinator.host.address)
            try:
                assert operator.call("FT.SEARCH", "idx", "q1", give_up=lambda: False) == [b"q1", 2]
                assert operator.call("CONFIG", "SET", "WORKERS", "0", give_up=lambda: False) == b"OK"
            finally:
                operator.close()
            assert [resize.conns_after for resize in coordinator.resizer.history] == [1]


        def test_several_coordinators(coordemu_coordinator):
            one, two = coordemu_coordinator(workers=0), coordemu_coordinator(workers=1)
            assert one.host.address != two.host.address


        def test_nothing_is_left():
            assert psutil.Process().children(recursive=True) == []
            assert threading.active_count() == 1
    """)
    result.assert_outcomes(passed=6)


def test_shards_that_do_not_answer_fail_the_test(run_tests: RunTests) -> None:
    result = run_tests("""
        import pytest

        from coordemu.coord.coordinator import Coordinator


        def test_it(coordemu_coordinator, monkeypatch):
            monkeypatch.setattr(Coordinator, "start", lambda self: False)
            with pytest.raises(RuntimeError, match="not every connection to embedded:1 stands"):
                coordemu_coordinator(shards="embedded:1")


        def test_no_such_shards(coordemu_coordinator):
            coordemu_coordinator(shards="redis://127.0.0.1:1")
    """)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*ShardError: shard 127.0.0.1:1: Connection refused"])


def test_the_fixtures_are_documented(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("")
    result = pytester.runpytest_subprocess(
        "-p", "no:coordemu", "-p", "coordemu.pytest_plugin", "--fixtures", timeout=50
    )
    result.stdout.fnmatch_lines(["coordemu_run *", "*Carry out a scenario in a child process."])
    result.stdout.fnmatch_lines(["coordemu_coordinator *", "*Make coordinators in this process*"])
