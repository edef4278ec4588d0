"""What a test in the simulator is given, what of it is new in every order, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "no:coordemu", "-p", "coordemu.pytest_plugin")

RunTests = Callable[..., pytest.RunResult]


@pytest.fixture
def run_tests(pytester: pytest.Pytester, footprint: Any) -> RunTests:
    """`run_tests(source, *args)`: in a pytest process of its own, as the strictest of projects would have it."""

    def run(source: str, *args: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=source)
        strict = ("-W", "error", "--strict-markers", "--strict-config")
        return pytester.runpytest_subprocess(*PLUGIN, *strict, *args, timeout=50)

    return run


def test_it_says_what_there_is(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess(*PLUGIN, "--markers").stdout.fnmatch_lines(
        ["@pytest.mark.interleavings(n=200, strategy='portfolio', *): *"]
    )
    told = pytester.runpytest_inprocess(*PLUGIN, "--fixtures").stdout
    for name in ("sim_rt", "sim_coordinator", "sim_client", "coordemu_rt"):
        told.fnmatch_lines([f"{name} *"])
    told.no_fnmatch_line("*no docstring available*coordemu*")


def test_what_cannot_be_played_is_refused_in_one_line(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import pytest

        @pytest.mark.interleavings(n=0)
        def test_none(sim_rt):
            pass

        @pytest.mark.interleavings(strategy="portfolo")
        def test_strategy(sim_rt):
            pass

        @pytest.mark.interleavings(clock="cuckoo")
        def test_clock(sim_rt):
            pass

        @pytest.mark.interleavings(seeds=1)
        def test_name(sim_rt):
            pass

        @pytest.mark.interleavings(100)
        def test_place(sim_rt):
            pass

        @pytest.mark.interleavings
        def test_no_fixture():
            pass

        def test_threads(sim_rt, coordemu_coordinator):
            pass

        async def test_async(sim_rt):
            pass

        @pytest.fixture
        def pool(sim_rt):
            return sim_rt.lock("made too soon")

        def test_fixture(pool):
            pass

        @pytest.mark.interleavings(n=20, expect="deadlocked")
        def test_expected(sim_rt):
            pass
        """,
    )
    result.assert_outcomes(failed=9, errors=1)
    for line in (
        "interleavings: n is 0, not a number from 1 on",
        "interleavings: no strategy is called 'portfolo'; *did you mean 'portfolio'?",
        "interleavings: clock 'cuckoo' is none of idle, explored",
        "interleavings has no 'seeds'; did you mean 'seed'?",
        "interleavings takes names: interleavings(n=100, ...)",
        "interleavings: the test takes none of sim_rt, sim_coordinator, sim_client, coordemu_rt",
        "coordemu_coordinator works on real threads; a test in the simulator cannot wait for it",
        "an async test cannot be played in the simulator, which has tasks of its own",
        "sim_rt is new in every order, and a fixture is set up once, before the first: use it in the test, *",
        "interleavings: none of 20 orders (portfolio, seed 0), * steps is deadlocked",
    ):
        result.stdout.fnmatch_lines([line])
    assert "During handling" not in result.stdout.str()


def test_what_is_new_in_an_order_and_what_is_shared(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import pytest

        runtimes, calls = [], []

        @pytest.fixture
        def shared():
            calls.append("set up")
            yield []
            calls.append("torn down")

        @pytest.fixture
        def spawn_all(sim_rt):
            def spawn(*functions):
                return [sim_rt.spawn(function, name=f"task-{n}") for n, function in enumerate(functions)]

            return spawn

        @pytest.mark.interleavings(n=5)
        def test_new(sim_rt, shared, spawn_all, capsys):
            assert sim_rt not in runtimes
            runtimes.append(sim_rt)
            shared.append(1)
            assert sim_rt.current().name == "test_new"
            for task in spawn_all(lambda: calls.append("task"), lambda: sim_rt.sleep_ns(10**12)):
                task.join()

        def test_shared():
            assert len(runtimes) == 5
            assert calls == ["set up", *["task"] * 5, "torn down"]

        class TestClass:
            @pytest.mark.interleavings(n=5)
            def test_method(self, sim_rt):
                self.seen = getattr(self, "seen", 0) + 1
                assert sim_rt.tasks()

        @pytest.mark.interleavings(n=5)
        def test_says_that_it_is_not_for_here(sim_rt):
            sim_rt.spawn(lambda: None, name="other").join()
            getattr(pytest, "skip")("not here")

        @pytest.mark.interleavings(n=5)
        def test_not_yet(sim_rt):
            getattr(pytest, "xfail")("not yet")

        @pytest.mark.interleavings(n=5)
        def test_in_another_task(sim_rt):
            def fail():
                raise KeyError("a bug of the task")

            sim_rt.spawn(fail, name="other")

        @pytest.mark.interleavings(n=5)
        def test_depends_on_the_past(sim_rt):
            calls.append("past")
            assert calls.count("past") != 3

        @pytest.mark.interleavings(n=1)
        def test_does_not_end(sim_rt):
            while True:
                sim_rt.sleep_ns(0)

        @pytest.mark.interleavings(n=5)
        def test_leaves_a_task(sim_rt):
            sim_rt.spawn(sim_rt.loop("a loop").run, name="server")

        @pytest.mark.interleavings(n=5)
        class TestMarked:
            def test_played(self, sim_rt):
                calls.append("played")

            def test_not_played(self):
                assert calls.count("played") == 5

        @pytest.mark.interleavings(n=5, expect="error")
        def test_expected(sim_rt):
            assert sim_rt.now_ns() < 0

        @pytest.mark.interleavings(n=5, expect="deadlocked")
        def test_something_else_than_expected(sim_rt):
            assert sim_rt.now_ns() < 0

        def test_both(coordemu_rt):
            done = coordemu_rt.event("done")
            task = coordemu_rt.spawn(done.set, name="setter")
            assert done.wait(10**10)
            task.join()
            if coordemu_rt.name == "sim":
                assert coordemu_rt in [coordemu_rt]
        """,
        "-rsx",
    )
    result.assert_outcomes(passed=8, failed=5, **{"skip" + "ped": 1, "xfailed": 1})
    result.stdout.fnmatch_lines([
        ">       raise KeyError(*",
        "KeyError: 'a bug of the task'",
        "the order could not be repeated (the order passes): the test depends on something that the simulator *",
        "livelock: no end after 200000 steps",
        "deadlocked: nothing can run any more; the test has ended, and these have not: server",
        ">       assert sim_rt.now_ns() < 0",
    ])  # fmt: skip


def test_a_coordinator_in_the_simulator(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import hiredis
        import pytest

        from coordemu.coord.resize_policy import get_policy
        from coordemu.shards.in_process_fleet import InProcessFleet

        @pytest.mark.interleavings(n=20)
        def test_sizes(sim_rt, sim_coordinator, sim_client):
            coordinator = sim_coordinator(workers=2, policy=get_policy("coordemu-safe"), shards=2, io_threads=2)
            operator, client = sim_client(), sim_client(coordinator)
            query = client.send("FT.SEARCH", "idx", "q", "SERVICE", 5000)
            assert not query.here
            assert operator.call("CONFIG", "SET", "WORKERS", 0) == b"OK"
            assert query.wait() == [b"q", 2]
            with pytest.raises(hiredis.ReplyError, match="unknown command"):
                operator.call("NO")
            assert [resize.conns_after for resize in coordinator.resizer.history] == [1]

        @pytest.mark.interleavings(n=5)
        def test_two(sim_coordinator, sim_client):
            one, other = sim_coordinator(workers=0), sim_coordinator(workers=1)
            assert sim_client(one).call("CONFIG", "GET", "WORKERS")[1] == b"0"
            assert sim_client().call("CONFIG", "GET", "WORKERS")[1] == b"1"
            with pytest.raises(ConnectionError):
                client = sim_client(one)
                one.stop()
                client.call("PING")

        @pytest.mark.interleavings(n=20)
        def test_a_shard_dies(sim_rt, sim_coordinator, sim_client):
            fleet = InProcessFleet(sim_rt, 1)
            sim_coordinator(workers=1, shards=fleet)
            client = sim_client()
            fleet.kill(0)
            with pytest.raises(hiredis.ReplyError, match="query failed"):
                client.call("FT.SEARCH", "idx", "q")

        @pytest.mark.interleavings(n=200, expect="deadlocked")
        def test_a_lost_query(sim_coordinator, sim_client):
            sim_coordinator(workers=1, shard_faults="silence=after:3")
            client = sim_client()
            while True:
                client.call("FT.SEARCH", "idx", "q")

        @pytest.mark.interleavings(n=3)
        def test_sizes_that_make_no_sense(sim_coordinator):
            sim_coordinator(shards=0)
        """,
        "-rP",
    )
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*ShardError: a fleet of 0 shards"])
