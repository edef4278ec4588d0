"""The simulator's commands from end to end: finding, saving, replaying, shrinking, bad files, Ctrl-C, dead workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND, Cli, Said, cli_fixture

from coordemu import cli_explore
from coordemu.cli_options import make_subject
from coordemu.coord.history import HISTORICAL_FAULTS
from coordemu.coord.resize_policy import POLICIES, get_policy
from coordemu.coord.shrink_plan import STOP_MODES
from coordemu.explore.order_search import Searched
from coordemu.explore.ranges import Lost
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.explore.search import SearchResult, search_range
from coordemu.lab.result import Result
from coordemu.report.search_progress import SearchProgress
from coordemu.runtime.sim_schedule import ScheduleError

AT_ONCE_S = 10
# Found within a few orders, and small.
FAILING = ["explore", "small", "--policy", "upstream-before"]
SOUND = ["explore", "small", "--policy", "upstream-7410"]

cli = cli_fixture()


def the_same(said: Said) -> dict[str, Any]:
    """A report without what depends on the machine."""
    report = said.json
    machine = report.pop("machine")
    assert machine["elapsed_ms"] > 0
    return report


# ---- explore


def test_a_failure_is_told_in_full(cli: Cli) -> None:
    said = cli(*FAILING, "--schedules", "60", code=1)
    assert said.err == ""
    for part in (
        "small, upstream-before\n",
        "60 orders, ",
        " orders/s; strategy portfolio, seed 1\n",
        "failure 1 of 1: deadlocked: main waits for barrier 'workers: terminate when empty', which misses workers-0; "
        "workers-0 waits for lock 'module lock', held by main: a cycle\n",
        "  first in order ",
        " switches between tasks (",
        "  signature: deadlocked; cycle: main > workers: terminate when empty > workers-# > module lock\n",
        "  what decides: ",
        "│ main      │ workers: terminate when empty │ workers-0 │",
        "│ workers-0 │ module lock                   │ main      │",
        "WorkersThreadPool.set_num_workers > ",
        "Queries._on_worker",
        "last steps\nstep ",
        "  replay: coordemu explore small --policy upstream-before --only ",
    ):
        assert part in said.out, part
    assert re.search(r"^deadlocked \d+/60 \(\d", said.out, re.MULTILINE)
    assert "/coordemu/runtime/" not in said.out
    # What it says repeats it does.
    [command] = re.findall(r"replay: coordemu (.*)", said.out)
    [number] = re.findall(r"--only (\d+)", command)
    again = cli(*command.split(), "--json", "-", code=1).json
    assert again["orders"] == 1
    assert [failure["number"] for failure in again["failures"]] == [int(number)]


def test_the_report_as_json(cli: Cli, tmp_path: Path) -> None:
    report = cli(*FAILING, "--schedules", "60", "--json", "-", code=1).json
    assert (report["scenario"], report["policy"]) == ("small", "upstream-before")
    assert report["orders"] == sum(report["verdicts"].values()) == 60
    assert report["whole"]
    assert report["complete"] is None
    [failure] = report["failures"]
    assert failure["verdict"] == "deadlocked"
    assert failure["cycle"]["kind"] == "cycle"
    assert failure["cycle"]["steps"] == ["main", "workers: terminate when empty", "workers-0", "module lock", "main"]
    assert failure["cycle"]["sentence"] == failure["failure"]["sentence"]
    waiting = {wait["task"]: wait for wait in failure["waits"]}
    assert (waiting["main"]["on"], waiting["main"]["held_by"]) == ("workers: terminate when empty", "workers-0")
    assert waiting["workers-0"]["since_ms"] > 1000
    assert failure["switches"] > 0
    assert failure["switches_found"] > 0
    assert failure["call_chains"]["main"][-1].startswith("thpool_admin.py:")
    assert failure["lanes"]
    # Into a file: the report goes to stdout as well.
    path = tmp_path / "report.json"
    assert "failure 1 of 1" in cli(*FAILING, "--schedules", "60", "--json", str(path), code=1).out
    written = json.loads(path.read_text())
    for each in (written, report):
        del each["machine"]
    assert written == report


def test_no_failure(cli: Cli) -> None:
    said = cli(*SOUND, "--schedules", "30")
    assert "healthy 30/30 (100 %)\n" in said.out
    assert "no failure found in 30 orders\n" in said.out


@pytest.mark.parametrize(
    ("command", "expect", "code"),
    [(FAILING, "deadlocked", 0), (FAILING, "healthy", 1), (FAILING, "lost", 1), (SOUND, "healthy", 0),
     (SOUND, "deadlocked", 1)],
)  # fmt: skip
def test_expectations(cli: Cli, command: list[str], expect: str, code: int) -> None:
    cli(*command, "--schedules", "30", "--expect", expect, "--no-shrink", "--json", "-", code=code)


def test_the_report_is_the_same_whatever_the_division(cli: Cli) -> None:
    reports = [
        the_same(cli(*FAILING, "--schedules", "100", "--jobs", jobs, "--json", "-", code=1)) for jobs in ("1", "2")
    ]
    assert reports[0] == reports[1]
    assert reports[0]["orders"] == 100


def test_other_seeds_find_other_orders_and_the_same_bug(cli: Cli) -> None:
    plain = [*FAILING, "--schedules", "40", "--strategy", "random", "--no-shrink", "--json", "-"]
    one, other, again = (the_same(cli(*plain, "--seed", seed, code=1)) for seed in ("1", "2", "1"))
    assert one == again
    assert one["failures"][0]["switches_found"] is None
    assert one["failures"][0]["lanes"] != other["failures"][0]["lanes"]
    assert one["failures"][0]["failure"]["signature"] == other["failures"][0]["failure"]["signature"]


def test_exhaustive(cli: Cli) -> None:
    said = cli(*SOUND, "--workers", "1:1", "--clients", "1", "--exhaustive")
    [classes] = re.findall(r"^complete: (\d+) class(?:es)?$", said.out, re.MULTILINE)
    assert f"healthy {classes}/{classes} (100 %)" in said.out
    assert said.out.endswith("no failure found\n")
    said = cli(*SOUND, "--exhaustive", "--schedules", "7")
    assert re.search(r"^not complete: \d+ class(es)? in 7 runs$", said.out, re.MULTILINE)
    hanging = ["explore", "mod-11658", "--policy", "upstream-before", "--workers", "1:0", "--clients", "1"]
    report = cli(*hanging, "--exhaustive", "--schedules", "2", "--no-shrink", "--json", "-", code=1).json
    assert (report["complete"], report["strategy"], report["runs"]) == (False, "dpor", 2)
    assert report["failures"][0]["replay"] == ""


def test_seconds(cli: Cli) -> None:
    report = cli(*SOUND, "--seconds", "0.3", "--json", "-").json
    assert report["orders"] > 0
    assert report["whole"]
    assert report["machine"]["elapsed_ms"] >= 300
    report = cli(*SOUND, "--seconds", "0.2", "--schedules", "1000000", "--json", "-").json
    assert not report["whole"]


def test_a_historical_fault_is_found(cli: Cli) -> None:
    assert "sync-reduce" in HISTORICAL_FAULTS
    said = cli(*SOUND, "--schedules", "60", "--fault", "sync-reduce", "--no-shrink", code=1)
    assert "deadlocked" in said.out
    assert "--fault sync-reduce --no-shrink --only " in said.out


def test_orders_that_could_not_be_played(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    result = SearchResult(90, 900, {"healthy": 90})
    lost = Searched(result, False, (Lost(20, 10, "a worker was killed by SIGKILL"),), elapsed_ns=10**9)
    monkeypatch.setattr(cli_explore.OrderSearch, "carry_out", lambda *args: lost)
    said = cli(*SOUND, "--jobs", "2", code=3)
    assert "ended before all orders were played\n" in said.out
    assert "orders 20 to 29 were not played: a worker was killed by SIGKILL\n" in said.out
    gone = Searched(result, False, broken_off="the dask cluster has gone: no comm", elapsed_ns=10**9)
    monkeypatch.setattr(cli_explore.OrderSearch, "carry_out", lambda *args: gone)
    assert "broken off: the dask cluster has gone: no comm\n" in cli(*SOUND, "--dask", "x", code=3).out
    # What was found counts first.
    found = search_range(make_subject("small", get_policy("upstream-before"), {}), "random", 1, 0, 40, 100)
    monkeypatch.setattr(cli_explore.OrderSearch, "carry_out", lambda *args: replace(gone, result=found))
    cli(*FAILING, "--no-shrink", code=1)
    compared = cli("compare", "mod-11658", "--runtime", "sim", "--policies", "upstream-7410", "--no-shrink", code=1)
    assert "upstream-7410: broken off: the dask cluster has gone: no comm\n" in compared.out


def test_an_order_that_does_not_repeat_is_no_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_so(*args: Any, **kwargs: Any) -> None:
        raise ScheduleError("not this time")

    monkeypatch.setattr(cli_explore, "shrink_order", not_so)
    [line] = cli(*FAILING, "--schedules", "40", code=1).err.splitlines()
    assert re.match(r"Error: order \d+ does not repeat: not this time$", line)

    def never_so(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("another step than before")

    monkeypatch.setattr("coordemu.explore.order_search.exhaust", never_so)
    assert cli(*SOUND, "--exhaustive", code=1).err == "Error: another step than before\n"


# ---- files


def test_saved_orders_replay(cli: Cli, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "orders"
    said = cli(*FAILING, "--schedules", "60", "--save", str(directory), code=1)
    [path] = directory.iterdir()
    assert re.fullmatch(r"small-upstream-before-deadlocked-1-\d+\.json", path.name)
    assert f"  file: {path}\n  replay: coordemu replay {path}\n" in said.out
    replayed = cli("replay", str(path))
    assert replayed.err == ""
    assert "deadlocked: main waits for barrier" in replayed.out
    assert "who waits for what" in replayed.out
    assert "last steps\n" in replayed.out
    report = cli("replay", str(path), "--json", "-").json
    assert report["difference"] == ""
    assert report["steps"] == len(ScheduleFile.load(path).schedule.steps)
    # The same search saves the same file.
    before = path.read_bytes()
    cli(*FAILING, "--schedules", "60", "--save", str(directory), code=1)
    assert [each.read_bytes() for each in directory.iterdir()] == [before]


def test_the_backfill_is_searched_and_replayed(cli: Cli, tmp_path: Path) -> None:
    said = cli(
        "explore", "backfill", "--fault", "ack-first", "--only", "6", "--no-shrink", "--save", str(tmp_path), code=1
    )
    assert "backfill" in said.out
    [path] = tmp_path.iterdir()
    assert ScheduleFile.load(path).subject["faults"] == ["ack-first"]
    assert "messages were left" in cli("replay", str(path)).out


@pytest.fixture
def found(cli: Cli, tmp_path: Path) -> Path:
    """A failing order as it was found, in a file."""
    cli(*FAILING, "--schedules", "60", "--strategy", "random", "--no-shrink", "--save", str(tmp_path), code=1)
    [path] = tmp_path.glob("*.json")
    assert path.name.startswith("small-upstream-before-deadlocked-random-1-")
    return path


def test_the_state_at_a_step(cli: Cli, found: Path) -> None:
    steps = len(ScheduleFile.load(found).schedule.steps)
    said = cli("replay", str(found), "--step", "12")
    assert f"step 12 of {steps}: stopped" in said.out
    assert re.search(r"^ *12 ", said.out, re.MULTILINE)
    assert not re.search(r"^ *13 ", said.out, re.MULTILINE)
    report = cli("replay", str(found), "--step", "0", "--json", "-").json
    assert (report["verdict"], report["steps"]) == ("stopped", 0)
    cli("replay", str(found), "--step", str(steps))
    assert f"has {steps} steps" in cli("replay", str(found), "--step", str(steps + 1), code=2).err


def test_the_trace_of_a_replay(cli: Cli, found: Path, tmp_path: Path) -> None:
    trace = [json.loads(line) for line in cli("replay", str(found), "--trace", "-").out.splitlines()]
    assert {"set_workers", "redisearch_thpool_terminate_when_empty"} <= {step["upstream"] for step in trace}
    assert set(trace[0]) == {"at_ms", "thread", "upstream", "ours", "detail"}
    path = tmp_path / "trace.jsonl"
    assert "deadlocked" in cli("replay", str(found), "--trace", str(path)).out
    assert [json.loads(line) for line in path.read_text().splitlines()] == trace


def test_shrink(cli: Cli, found: Path, tmp_path: Path) -> None:
    said = cli("shrink", str(found))
    beside = found.with_suffix(".shrunk.json")
    assert f"  replay: coordemu replay {beside}\n" in said.out
    assert "what decides: " in said.out
    before, after = ScheduleFile.load(found), ScheduleFile.load(beside)
    assert after.failure is not None
    assert before.failure is not None
    assert after.failure.signature == before.failure.signature
    assert len(after.schedule.steps) < len(before.schedule.steps)
    assert cli("replay", str(beside), "--json", "-").json["difference"] == ""
    out = tmp_path / "out.json"
    report = cli("shrink", str(found), "--out", str(out), "--json", "-").json
    assert report["switches"] < report["switches_found"]
    assert ScheduleFile.load(out) == after


def broken(found: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """The file with something else in it."""
    values = json.loads(found.read_text())
    change(values)
    path = found.with_name("broken.json")
    path.write_text(json.dumps(values))
    return str(path)


BAD_FILES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("another version", lambda file: file.update(version=9), "a schedule file of version 9"),
    ("no format", lambda file: file.pop("format"), "not a schedule file of coordemu"),
    ("no segments", lambda file: file.pop("segments"), "segments"),
    ("steps that name nothing", lambda file: file["segments"][2].append(99), "step "),
    ("fewer steps than it says", lambda file: file["segments"].pop(), "step"),
    ("a clock that is none", lambda file: file["plan"].update(clock="sun"), "clock"),
    ("a program", lambda file: file.update(subject={"kind": "program", "name": "test_x"}), "only its test can play it"),
    ("another kind", lambda file: file["subject"].update(kind="soup"), "kind 'soup'"),
    ("no policy", lambda file: file["subject"].pop("policy"), "'policy'"),
    ("a bad policy", lambda file: file["subject"]["policy"].update(reduce="zync"), "reduce 'zync'"),
    ("a bad scenario", lambda file: file["subject"]["scenario"].update(workers=[99, 0]), "WORKERS 99"),
    ("a scenario of another kind", lambda file: file["subject"].update(scenario=[]), "subject"),
    ("an unknown fault", lambda file: file["subject"].update(faults=["rust"]), "rust"),
]


@pytest.mark.parametrize(("change", "says"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES])
def test_a_file_that_is_no_schedule(
    cli: Cli, found: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    path = broken(found, change)
    for command in ("replay", "shrink"):
        said = cli(command, path, code=2)
        [line] = said.err.splitlines()
        assert line.startswith(f"Error: {path}: ")
        assert says in line
        assert said.out == ""


def test_files_that_are_not_even_json(cli: Cli, found: Path, tmp_path: Path) -> None:
    text = found.read_text()
    path = tmp_path / "bad.json"
    for data in (b"", b"{", b"[]", b"\xff\x00", text[: len(text) // 2].encode(), text[:-3].encode()):
        path.write_bytes(data)
        [line] = cli("replay", str(path), code=2).err.splitlines()
        assert line.startswith(f"Error: {path}: ")


def swap_labels(file: dict[str, Any]) -> None:
    """The first step of main that has words of its own is called otherwise."""
    for segment in file["segments"]:
        if segment[0] == "main":
            for at, label in enumerate(segment[1:], 1):
                if isinstance(label, str):
                    segment[at] = "acquire the moon"
                    return


def other_scenario(file: dict[str, Any]) -> None:
    file["subject"]["scenario"].update(clients=5, workers=[5, 0])


@pytest.mark.parametrize("change", [swap_labels, other_scenario])
def test_an_order_that_no_longer_fits_names_the_step(
    cli: Cli, found: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = broken(found, change)
    for command in ("replay", "shrink"):
        said = cli(command, path, code=1)
        assert said.out == ""
        [line] = said.err.splitlines()
        assert re.match(rf"Error: {re.escape(path)}: the schedule does not fit: step \d+: ", line)
    report = json.loads(cli("replay", path, "--json", "-", code=1).out)
    assert report["verdict"] == "diverged"
    assert "step " in report["difference"]


def test_an_order_that_shows_something_else_is_not_passed_over(cli: Cli, found: Path) -> None:
    path = broken(found, lambda file: file.update(verdict="lost"))
    said = cli("replay", path, code=1)
    assert "deadlocked: main waits" in said.out
    assert said.err.startswith(f"Error: {path}: all ")
    assert "the file says lost" in said.err


def test_an_order_that_passes_can_not_be_shrunk(cli: Cli, found: Path) -> None:
    path = broken(found, lambda file: file.update(failure=None, verdict="healthy"))
    assert "there is no failure to keep" in cli("shrink", path, code=2).err
    assert cli("replay", path, code=1).err.count("\n") == 1


def test_files_that_can_not_be_read_or_written(cli: Cli, found: Path, tmp_path: Path) -> None:
    for command in ("replay", "shrink"):
        assert cli(command, "/nowhere/x", code=3).err == "Error: can't read '/nowhere/x': No such file or directory\n"
        assert cli(command, str(tmp_path), code=3).err == f"Error: can't read '{tmp_path}': Is a directory\n"
        for option in ("--json", "--trace" if command == "replay" else "--out"):
            [line] = cli(command, str(found), option, str(tmp_path), code=3).err.splitlines()
            assert line == f"Error: can't write '{tmp_path}': Is a directory"
    for directory, why in ((str(found), "File exists"), ("/proc/orders", "No such file or directory")):
        [line] = cli(*SOUND, "--save", directory, code=3).err.splitlines()
        assert line == f"Error: can't write in '{directory}': {why}"
    assert "can't write" in cli(*SOUND, "--json", "/nowhere/x", code=3).err


# ---- compare and run


def test_compare(cli: Cli, tmp_path: Path) -> None:
    names = "upstream-before,upstream-7410,delay-trigger"
    few = ["compare", "mod-11658", "--runtime", "sim", "--policies", names, "--workers", "2:0", "--clients", "2"]
    said = cli(*few, "--schedules", "25", "--save", str(tmp_path))
    lines = said.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "upstream-before (1/3)", "upstream-7410 (2/3)", "delay-trigger (3/3)",
    ]  # fmt: skip
    assert re.search(r": deadlocked (\d\d|100) %", lines[0])
    assert lines[1] == "upstream-7410 (2/3): healthy 100 %"
    rows = {row[1].strip(): row for line in said.out.splitlines() if (row := line.split("│"))[1:]}
    assert [cell.strip() for cell in rows["upstream-7410"][2:6]] == ["25", "healthy 100 %", "no", "none"]
    assert re.match(r" order \d+: deadlocked, \d+ steps, \d+ switches between tasks ", rows["upstream-before"][5])
    for path in tmp_path.iterdir():
        if path.name.endswith("-0.json"):
            assert f"  replay: coordemu replay {path}\n" in said.out
            cli("replay", str(path))


def test_compare_says_what_is_refuted_and_repeats_it(cli: Cli) -> None:
    wrong = POLICIES["upstream-before"]
    object.__setattr__(wrong, "expected", "healthy")
    try:
        command = ["compare", "--runtime", "sim", "--policies", "upstream-before", "--schedules", "2", "--no-shrink"]
        report = cli(*command, "--json", "-", code=1).json
        assert report["refuted"] == ["upstream-before: expected healthy, got deadlocked 100 %"]
        said = cli(*command, code=1)
    finally:
        object.__setattr__(wrong, "expected", "deadlocked")
    assert said.out.splitlines()[-1] == f"refuted: {report['refuted'][0]}"
    again = "coordemu explore mod-11658 --policy upstream-before --no-shrink --only 0"
    assert f"  replay: {again}\n" in said.out
    assert report["results"][0]["failures"][0]["replay"] == again
    cli(*again.split()[1:], code=1)


def test_compare_exhaustively(cli: Cli) -> None:
    tiny = ["--workers", "1:1", "--clients", "1", "--exhaustive"]
    said = cli("compare", "small", "--runtime", "sim", "--policies", "upstream-7410,upstream-before", *tiny)
    assert len(re.findall(r"│ complete: \d+ class(?:es)? ", said.out)) == 2
    assert "healthy 100 %, complete: " in said.err


def test_compare_with_stop_modes(cli: Cli) -> None:
    command = ["compare", "small", "--runtime", "sim", "--policies", "upstream-before", "--stops", "--schedules", "10"]
    report = cli(*command, "--no-shrink", "--json", "-").json
    stops = [result["subject"]["policy"]["stop"] for result in report["results"]]
    assert stops == list(STOP_MODES)
    told = [(stop, failure) for stop, result in zip(stops, report["results"], strict=True)
            for failure in result["failures"]]  # fmt: skip
    assert told
    for stop, failure in told:
        assert f"--policy upstream-before --stop {stop} --no-shrink --only " in failure["replay"]


def test_run_in_the_simulator(cli: Cli) -> None:
    quick = ["--warm", "50ms", "--after", "60ms", "--workers", "3:0", "--clients", "3", "--runtime", "sim"]
    one, again, other = (cli("run", *quick, "--seed", seed, "--json", "-").json for seed in ("5", "5", "6"))
    for report in (one, again, other):
        for result in report["results"]:
            del result["machine"]
    assert one == again != other
    found = [Result.from_json(result) for result in one["results"]]
    assert [(result.policy["name"], result.verdict) for result in found] == [
        ("writeup-before", "deadlocked"),
        ("writeup-fix", "healthy"),
    ]
    assert {result.runtime for result in found} == {"sim"}


# ---- use


BAD_USE: list[tuple[list[str], str]] = [
    (["explore", "smal"], "no scenario of orders is called 'smal'; did you mean 'small'?"),
    (["explore", "--policy", "nope"], "no policy is called 'nope'"),
    (["explore", "--workers", "12:-1"], "WORKERS -1 is not within 0..16"),
    (["explore", "--clients", "65"], "--clients: 65 is not within 0..64"),
    (["explore", "--schedules", "0"], "'--schedules'"),
    (["explore", "--seconds", "0"], "'--seconds'"),
    (["explore", "--strategy", "luck"], "--strategy: no strategy is called 'luck'; there are portfolio, "),
    (["explore", "--fault", "rust"], "--fault: no historical fault is called 'rust'; did you mean "),
    (["explore", "--jobs", "0"], "'--jobs'"),
    (["explore", "--exhaustive", "--jobs", "2"], "--jobs: each order of an exhaustive search depends on those before"),
    (["explore", "--exhaustive", "--strategy", "pos"], "--exhaustive goes with the strategies dfs and dpor, not pos"),
    (["explore", "--strategy", "dfs", "--dask", "x"], "--dask: each order of an exhaustive search depends on those"),
    (["explore", "--jobs", "2", "--dask", "x"], "--jobs is for this machine"),
    (["explore", "--expect", "luck"], "'--expect'"),
    (["replay"], "Missing argument 'FILE'"),
    (["compare", "--schedules", "5"], "--schedules has a meaning in the simulator only (--runtime)"),
    (["compare", "--runtime", "sim", "--repeat", "5"], "--repeat has a meaning on real threads only (--runtime)"),
    (["compare", "--runtime", "sim", "--watchdog", "1s"], "--watchdog has no meaning in the simulator"),
    (["compare", "--runtime", "sim", "slow-shards"], "no scenario of orders is called 'slow-shards'"),
    (["run", "--runtime", "sim", "--shards", "redis://127.0.0.1:1"], "the simulator has embedded shards"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "says"), BAD_USE, ids=[" ".join(args) for args, _ in BAD_USE])
def test_bad_use_is_exit_code_2_and_one_clear_line(cli: Cli, args: list[str], says: str) -> None:
    said = cli(*args, code=2)
    assert said.out == ""
    [complaint] = said.err.splitlines()
    assert complaint.startswith("Error: ")
    assert says in complaint


def test_no_cluster_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordemu.explore.dask_jobs.CONNECT_LIMIT_S", 0.5)
    [line] = cli(*SOUND, "--dask", "tcp://127.0.0.1:1", code=3).err.splitlines()
    assert line.startswith("Error: no dask scheduler at 'tcp://127.0.0.1:1': ")
    monkeypatch.setitem(sys.modules, "distributed", None)
    [line] = cli(*SOUND, "--dask", "tcp://127.0.0.1:1", code=3).err.splitlines()
    assert line == "Error: --dask needs dask.distributed: pip install 'coordemu[dask]'"


def test_help_names_the_commands(cli: Cli) -> None:
    said = cli("--help").out
    for name in ("explore", "replay", "shrink", "--runtime sim"):
        assert name in said
    assert "--exhaustive" in cli("explore", "--help").out


# ---- ended from outside


def test_ctrl_c_keeps_what_was_found(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = SearchProgress.show

    def show(self: SearchProgress, orders: int, found: int) -> None:
        shown(self, orders, found)
        if found:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(SearchProgress, "show", show)
    before = signal.getsignal(signal.SIGINT)
    said = cli(*FAILING, "--schedules", "1000000", "--save", str(tmp_path), "--json", "-", code=130)
    assert said.err == "Aborted!\n"
    report = said.json
    assert not report["whole"]
    assert 0 < report["orders"] < 1000
    [failure] = report["failures"]
    assert failure["switches_found"] is None
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    cli("replay", failure["file"])
    # A comparison tells of the policies that it came to.
    monkeypatch.setattr(SearchProgress, "show", show)
    compare = ["compare", "small", "--runtime", "sim", "--policies", "upstream-before,upstream-7410"]
    said = cli(*compare, "--schedules", "100000", code=130)
    assert "upstream-before" in said.out
    assert "upstream-7410" not in said.out
    assert said.err.splitlines()[-1] == "Aborted!"


def test_ctrl_c_while_shrinking_keeps_the_order_as_it_was(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SearchProgress, "tell", lambda self, line: os.kill(os.getpid(), signal.SIGINT))
    said = cli(*FAILING, "--schedules", "20", "--json", "-", code=130)
    assert said.json["failures"][0]["verdict"] == "deadlocked"


def test_a_second_ctrl_c_ends_at_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stubborn(*args: object, **kwargs: object) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(cli_explore.OrderSearch, "carry_out", stubborn)
    said = cli(*SOUND, code=1)
    assert (said.out, said.err.strip()) == ("", "Aborted!")


@pytest.fixture
def start(footprint: Any) -> Any:
    """`start(*args)`: the command in a process of its own, ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def make(*args: str) -> subprocess.Popen[str]:
        started.append(subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield make
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_worker_loses_no_orders(
    cli: Cli, start: Callable[..., Any], footprint: Any, eventually: Callable[..., Any]
) -> None:
    process = start(*FAILING, "--schedules", "300", "--jobs", "2", "--json", "-")
    eventually(lambda: footprint.processes("worker_main"))[0].kill()
    out, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (1, "")
    assert the_same(Said(out, err)) == the_same(cli(*FAILING, "--schedules", "300", "--json", "-", code=1))


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left(
    start: Callable[..., Any], footprint: Any, eventually: Callable[..., Any], by: signal.Signals
) -> None:
    """The fixture looks for what is left, too."""
    process = start(*SOUND, "--seconds", "600", "--jobs", "2", "--json", "-")
    workers = eventually(lambda: len(found := footprint.processes("worker_main")) == 2 and found)
    process.send_signal(by)
    out, err = process.communicate(timeout=AT_ONCE_S)
    if by is signal.SIGINT:
        assert (process.returncode, err) == (130, "Aborted!\n")
        assert not json.loads(out)["whole"]
    else:
        assert (process.returncode, out, err) == (-by, "", "")
    eventually(lambda: not any(worker.is_running() for worker in workers))
