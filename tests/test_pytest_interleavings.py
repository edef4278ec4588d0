"""Tests that are played in many orders, in a project of somebody else's: what fails, what is told, what replays it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

# "-W error" and the strict options, as the strictest of projects would have it.
PLUGIN = ("-p", "no:coordemu", "-p", "coordemu.pytest_plugin")
STRICT = (*PLUGIN, "-W", "error", "--strict-markers", "--strict-config")

RACE = """
    import pytest


    def add_twice(rt, fail=False):
        total = rt.cell(0, "total")

        def add():
            total.value = total.value + 1

        tasks = [rt.spawn(add, name=f"add-{number}") for number in range(2)]
        print("an order")
        for task in tasks:
            task.join()
        result = total.value
        assert result == 2


    @pytest.mark.interleavings(n=200)
    @pytest.mark.parametrize("way", ["a", "b c"])
    def test_race(sim_rt, way):
        add_twice(sim_rt)


    @pytest.mark.interleavings(n=200)
    def test_deadlock(sim_rt):
        left, right = sim_rt.lock("left"), sim_rt.lock("right")

        def other():
            with right, left:
                pass

        task = sim_rt.spawn(other, name="other")
        with left, right:
            pass
        task.join()
"""


class Project:
    """A project with tests, and pytest processes in it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def run(self, *args: str, options: tuple[str, ...] = STRICT) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(*options, *args, timeout=50)

    def ask(self, *args: str) -> pytest.RunResult:
        """For what runs no test: in this process, which is quicker."""
        return self.pytester.runpytest_inprocess(*PLUGIN, *args)

    def files(self) -> list[Path]:
        """The schedule files in pytest's cache."""
        return sorted((self.path / ".pytest_cache").rglob("*.json"))


@pytest.fixture
def project(pytester: pytest.Pytester, footprint: Any) -> Project:
    return Project(pytester)


def sections(result: pytest.RunResult) -> dict[str, list[str]]:
    """The section of each failed test, by the test's name, without what differs between two runs: nothing."""
    found: dict[str, list[str]] = {}
    name, inside = "", False
    for line in result.outlines:
        if re.fullmatch(r"_+ \S.* _+", line):
            name, inside = line.strip("_ "), False
        elif line.startswith("----"):
            inside = "coordemu: the order that fails" in line
        elif line.startswith("===="):
            inside = False
        elif inside:
            found.setdefault(name, []).append(line)
    return found


def command_of(lines: list[str]) -> list[str]:
    """The arguments of the command that the section ends with."""
    last = [line for line in lines if line][-1]
    assert last.startswith("replay:   pytest ")
    return shlex.split(last.removeprefix("replay:   pytest "))


def test_a_failure_is_shown_saved_and_replayed(project: Project) -> None:
    project.pytester.makepyfile(test_race=RACE)
    first = project.run()
    first.assert_outcomes(failed=3)
    told = sections(first)
    assert set(told) == {"test_race[a]", "test_race[b c]", "test_deadlock"}

    # The assertion, with its introspection, and one order's output only.
    first.stdout.fnmatch_lines([">       assert result == 2", "E       assert 1 == 2"])
    assert first.outlines.count("an order") == 2

    race = "\n".join(told["test_race[b c]"])
    assert re.search(r"^error, in order \d+ of 200 \(portfolio, seed 0; \d+ steps so far\)$", race, re.MULTILINE)
    assert "the order, " in race
    assert re.search(r"step +test_race +add-0 +add-1", race)
    assert "it would have passed" in race

    hang = "\n".join(told["test_deadlock"])
    cycle = "test_deadlock waits for lock 'right', held by other; other waits for lock 'left', held by test_deadlock"
    first.stdout.fnmatch_lines([f"deadlocked: {cycle}: a cycle"])
    assert "who waits for whom:" in hang
    assert f"[cycle, 0.000 s] {cycle}: a cycle" in hang
    assert re.search(r"where they stand:\n  \S+\n    .*test_race.py:\d+ test_deadlock", hang)
    assert first.ret == pytest.ExitCode.TESTS_FAILED

    files = project.files()
    assert len(files) == 3
    for name, lines in told.items():
        command = command_of(lines)
        assert command[0] == f"test_race.py::{name}"
        file = command[1].removeprefix("--coordemu-replay=")
        assert project.path / file in files
        assert f"schedule: {file}" in lines
        written = json.loads((project.path / file).read_text())
        assert written["subject"] == {"kind": "pytest", "name": f"test_race.py::{name}"}

    for name in ("test_race[b c]", "test_deadlock"):
        again = project.run(*command_of(told[name]))
        again.assert_outcomes(failed=1)
        repeated = sections(again)[name]
        assert re.fullmatch(r"(error|deadlocked), in the order of \.pytest_cache/d/coordemu/\S+\.json", repeated[0])
        assert repeated[1] == told[name][1]
        # The very same steps.
        assert [line for line in repeated if re.match(r" +\d+ ", line)] == [
            line for line in told[name] if re.match(r" +\d+ ", line)
        ]


def test_a_replay_that_does_not_fit_says_so_in_one_line(project: Project) -> None:
    project.pytester.makepyfile(test_race=RACE)
    project.run("--coordemu-save", "orders", "-k", "deadlock").assert_outcomes(failed=1)
    (path,) = (project.path / "orders").iterdir()
    assert project.files() == []
    file = str(path.relative_to(project.path))

    # Another test's; with the file after a blank, too.
    other = project.run("-k", "race", "test_race.py::test_race", "--coordemu-replay", file)
    other.assert_outcomes(failed=2)
    line = f"{file} is an order of test_race.py::test_deadlock, not of test_race.py::test_race[a]"
    other.stdout.fnmatch_lines([re.sub(r"[\[\]]", "?", line)])
    assert sections(other) == {}

    changed = path.read_text().replace("spawn other", "spawn another")
    assert changed != path.read_text()
    (project.path / "changed.json").write_text(changed)
    result = project.run("-k", "deadlock", "--coordemu-replay=changed.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "changed.json does not fit the test any more: step 2: the schedule has test_deadlock: 'spawn another', "
        "but test_deadlock is at 'spawn other'"
    ])  # fmt: skip

    # A test that has been mended is no longer at the step either, or passes.
    project.pytester.makepyfile(test_race=RACE.replace("with right, left:", "with left, right:"))
    mended = project.run("-k", "deadlock", f"--coordemu-replay={file}")
    mended.assert_outcomes(failed=1)
    mended.stdout.re_match_lines([rf"{re.escape(file)} does not fit the test any more: step \d+: .*"])

    (project.path / "cut.json").write_text(path.read_text()[:300])
    for name, said in (("cut.json", "not JSON at line"), ("none.json", "cannot be read: No such file")):
        broken = project.ask(f"--coordemu-replay={name}")
        assert broken.ret == pytest.ExitCode.USAGE_ERROR
        (line,) = [line for line in broken.errlines if line]
        assert line.startswith(f"ERROR: --coordemu-replay: {name}: {said}")


def test_options_marks_and_ini(project: Project) -> None:
    project.pytester.makeini("[pytest]\ncoordemu_schedules = 7\ncoordemu_seed = 3\ncoordemu_save = kept/orders\n")
    project.pytester.makepyfile(
        test_it="""
        import pytest

        def body(rt):
            rt.spawn(lambda: None, name="other").join()

        @pytest.mark.interleavings
        def test_ini(sim_rt):
            body(sim_rt)

        @pytest.mark.interleavings(n=5, seed=4, strategy="random", clock="explored")
        def test_mark(sim_rt):
            body(sim_rt)

        @pytest.mark.interleavings(n=1000, strategy="dpor")
        def test_all(sim_rt):
            pass

        def test_plain(sim_rt):
            body(sim_rt)

        @pytest.mark.interleavings
        def test_fails(sim_rt):
            body(sim_rt)
            assert not sim_rt
        """
    )

    def told(*args: str) -> list[str]:
        result = project.run("-rP", *args)
        result.assert_outcomes(passed=4, failed=1)
        return [re.sub(r"\d+ steps?", "N steps", line) for line in result.outlines if re.match(r".*\(.*seed \d", line)]

    assert told() == [
        "error, in order 1 of 7 (portfolio, seed 3; N steps so far)",
        "7 orders (portfolio, seed 3), N steps: none fails",
        "5 orders (random, seed 4, clock explored), N steps: none fails",
        "1 order (dpor, seed 3), N steps: complete: 1 class",
        "1 order (run-on, seed 0), N steps: none fails",
    ]
    assert len(list((project.path / "kept" / "orders").iterdir())) == 1
    assert told("--coordemu-schedules=2", "--coordemu-seed=9", "--coordemu-save=elsewhere") == [
        "error, in order 1 of 2 (portfolio, seed 9; N steps so far)",
        "2 orders (portfolio, seed 9), N steps: none fails",
        "2 orders (random, seed 9, clock explored), N steps: none fails",
        "1 order (dpor, seed 9), N steps: complete: 1 class",
        "1 order (run-on, seed 0), N steps: none fails",
    ]
    assert len(list((project.path / "elsewhere").iterdir())) == 1
    for option in ("--coordemu-seed=-1", "--coordemu-schedules=0"):
        assert project.ask(option).ret == pytest.ExitCode.USAGE_ERROR


def test_examples_of_hypothesis(project: Project) -> None:
    project.pytester.makepyfile(
        test_it="""
        import pytest
        from hypothesis import HealthCheck, assume, given, settings, strategies

        common = settings(
            deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
        )

        @common
        @given(count=strategies.integers(0, 4))
        @pytest.mark.interleavings(n=30)
        def test_race(sim_rt, count):
            assume(count != 2)
            total = sim_rt.cell(0, "total")

            def add():
                total.value = total.value + 1

            for task in [sim_rt.spawn(add, name=f"add-{number}") for number in range(count)]:
                task.join()
            assert total.value == count

        class TestClass:
            @common
            @given(strategies.integers(0, 3))
            @pytest.mark.interleavings(n=3)
            def test_fine(self, sim_rt, count):
                for number in range(count):
                    sim_rt.spawn(lambda: None, name=f"task-{number}").join()
        """
    )
    result = project.run("-rP")
    result.assert_outcomes(passed=1, failed=1)
    told = sections(result)["test_race"]
    # The smallest example, and of that the smallest order.
    assert re.fullmatch(r"error, in order \d+ of 30 \(.*\) of the example count=3", told[0])
    result.stdout.re_match_lines([r"\d+ orders of \d+ examples \(portfolio, seed 0\), \d+ steps: none fails"])

    again = project.run(*command_of(told))
    again.assert_outcomes(failed=1)
    assert sections(again)["test_race"][0].startswith("error, in the order of ")
    (path,) = project.files()
    path.write_text(path.read_text().replace("count=3", "count=77"))
    other = project.run(*command_of(told))
    other.assert_outcomes(failed=1)
    other.stdout.fnmatch_lines(["* is an order of the example count=77, which did not come; name it by @example"])


def test_the_same_everywhere(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first order that fails is a matter of the seed, not of the process; other processes write other files."""
    project.pytester.makepyfile(test_race=RACE)
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    one = sections(project.run())
    texts = [path.read_text() for path in project.files()]
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    workers = project.run("-n", "2", "-p", "xdist")
    workers.assert_outcomes(failed=3)
    assert sections(workers) == one
    assert [path.read_text() for path in project.files()] == texts
    assert len(one) == len(texts) == 3


def test_ctrl_c(project: Project) -> None:
    source = """
        import os
        import signal

        import pytest

        calls = []

        @pytest.mark.interleavings(n=100_000_000)
        def test_endless(sim_rt):
            calls.append(1)
            if len(calls) == 20:
                os.kill(os.getpid(), signal.SIGINT)
            sim_rt.spawn(lambda: None, name="other").join()
            {last}
    """
    project.pytester.makepyfile(test_it=source.format(last="pass"))
    searching = project.run()
    assert searching.ret == pytest.ExitCode.INTERRUPTED
    searching.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
    assert project.files() == []

    # What was found before is told.
    project.pytester.makepyfile(test_it=source.format(last="assert sim_rt is None").replace("== 20", "== 3"))
    shrinking = project.run()
    assert shrinking.ret == pytest.ExitCode.INTERRUPTED
    shrinking.assert_outcomes(failed=1)
    assert len(project.files()) == 1
    assert command_of(sections(shrinking)["test_endless"])[0] == "test_it.py::test_endless"


def test_installed_and_without_a_cache(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point alone loads all of it; nothing is written where pytest may write nothing."""
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    assert 'coordemu = "coordemu.pytest_plugin"' in pyproject.read_text()
    site = project.path / "site"
    metadata = site / "coordemu-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: coordemu\nVersion: 0\n")
    (metadata / "RECORD").write_text("")
    (metadata / "entry_points.txt").write_text("[pytest11]\ncoordemu = coordemu.pytest_plugin\n")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    tests = project.path / "elsewhere"
    tests.mkdir()
    project.pytester.makepyfile(**{"elsewhere/test_race": RACE})
    options = ("-W", "error", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    result = project.run("-k", "deadlock", options=options)
    result.assert_outcomes(failed=1)
    said = sections(result)["test_deadlock"]
    assert "schedule: not saved, for pytest's cache is off" in said
    assert command_of(said)[1:] == ["--coordemu-seed=0", "--coordemu-save=DIR"]
