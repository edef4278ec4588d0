"""The benchmarks, each in its smallest size: that they measure what they say, and lose nothing. Never how fast."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import run_all  # noqa: E402
from bench.compare import changes, conclusion, load, print_changes  # noqa: E402
from bench.idle import FLAT_B, GOAL_B  # noqa: E402
from bench.idle_conns import IdleConns, count_bytes, heap_bytes_each, heap_in_use  # noqa: E402
from bench.idle_resizes import resize_often  # noqa: E402
from bench.many_nodes import ManyNodes  # noqa: E402
from bench.measure import (  # noqa: E402
    MS,
    PER_S,
    SMOKE,
    US,
    Case,
    Contender,
    Report,
    Row,
    cost_ns,
    run_case,
    tabulate,
)
from bench.soak_load import Ledger  # noqa: E402
from bench.soak_run import SoakRun, SoakSpec  # noqa: E402
from bench.tables import print_report, where_we_lose  # noqa: E402
from coordemu.coord.resize_policy import get_policy  # noqa: E402
from coordemu.lab.machine import count_resources, describe_machine  # noqa: E402
from coordemu.native import PendingTable  # noqa: E402
from coordemu.report.console import output  # noqa: E402
from coordemu.runtime.threads import ThreadsRuntime  # noqa: E402
from coordemu.shards.shard_process import ShardProcess  # noqa: E402


def constant(value: float) -> Callable[[], float]:
    return lambda: value


def contender(name: str, value: float, *, ours: bool = False) -> Contender:
    return Contender(name, constant(value), ours)


# --- measuring


def test_contenders_take_turns_and_the_first_sample_is_thrown_away() -> None:
    calls: list[str] = []

    def sampler(name: str) -> Callable[[], float]:
        def sample() -> float:
            calls.append(name)
            return float(len(calls))

        return sample

    case = Case("turns", US, [Contender("a", sampler("a")), Contender("b", sampler("b"))], ["a"], 3)
    result = run_case(case)
    assert "".join(calls) == "abababab"
    assert result.row("a").samples == [3.0, 5.0, 7.0]
    assert result.row("b").samples == [4.0, 6.0, 8.0]


@pytest.mark.parametrize(("unit", "better"), [(US, 4.0), (MS, 4.0), (PER_S, 0.25)])
def test_better_is_less_time_or_more_per_second(unit: str, better: float) -> None:
    result = run_case(Case("c", unit, [contender("base", 8.0), contender("own", 2.0)], ["base"], 2))
    assert result.row("own").times_better == {"base": better}
    assert result.row("base").times_better == {"base": 1.0}


def test_percentiles_and_all_samples_are_in_the_json() -> None:
    row = Row("r", True, [float(value) for value in range(100, 0, -1)])
    data = row.to_json()
    assert (data["median"], data["p10"], data["p90"], data["p99"]) == (50.5, 11.0, 91.0, 100.0)
    assert sorted(data["samples"]) == [float(value) for value in range(1, 101)]


@pytest.mark.parametrize("bad", [{"unit": "hours"}, {"baselines": ["nobody"]}, {"limits": ["nobody"]}])
def test_a_case_refuses_what_it_cannot_compare(bad: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "title": "c",
        "unit": US,
        "contenders": [contender("a", 1)],
        "baselines": ["a"],
        "rounds": 1,
    }
    with pytest.raises(ValueError, match="case 'c'"):
        Case(**{**given, **bad})


def test_two_contenders_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="contenders"):
        Case("c", US, [contender("a", 1), contender("a", 2)], ["a"], 1)


def test_the_cost_of_a_statement_is_per_operation() -> None:
    ran: list[int] = []
    sample = cost_ns("ran.append(0)", {"ran": ran}, at_least_ms=0.01, per=4)
    before = len(ran)
    cost = sample()
    assert isinstance(cost, float)
    assert (len(ran) - before) % 20 == 0
    assert cost > 0


def test_rows_that_lose_are_listed_and_those_of_others_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row("base", False, [10.0]),
        Row("slow", True, [40.0]),
        Row("near", True, [10.2]),
        Row("theirs", False, [99.0]),
    ]
    report = Report("r", [tabulate("title", US, rows, ["base"], limits=["theirs"])], {"held": True}, "so it is")
    assert where_we_lose([report]) == ["r: slow against base: 0.25x (title)"]
    print_report(output(), report)
    said = capsys.readouterr().out
    for expected in ("slow", "0.25x", "theirs", "so it is", "of limit"):
        assert expected in said


# --- the benchmarks


def check_structure(report: Report) -> None:
    assert report.cases
    assert report.conclusion
    for case in report.cases:
        assert {row.name for row in case.rows} >= {*case.baselines, *case.limits}
        assert any(row.ours for row in case.rows)
        for row in case.rows:
            assert row.samples
            assert set(row.times_better) == {*case.baselines, *case.limits}
    json.dumps(report.to_json())


@pytest.mark.parametrize("name", [name for name in run_all.NAMES if name not in ("drain", "many_nodes")])
def test_a_benchmark_in_its_smallest_size(name: str) -> None:
    check_structure(run_all.benchmark(name)(SMOKE, lambda line: None))


def held() -> dict[str, int]:
    """Threads, descriptors and sockets of this process."""
    return {key: value for key, value in count_resources().items() if key != "rss_kib"}


def test_drain_loses_no_reply(eventually: Callable[..., Any]) -> None:
    before = held()
    report = run_all.benchmark("drain")(SMOKE, lambda line: None)
    check_structure(report)
    sums = report.facts["receipts"]
    assert 0 < sums["pending"] == sums["delivered"] <= 36 * sums["shrinks"]
    assert sums["failed"] == sums["lost"] == 0
    assert sums["deadline"] == 1  # block-loop, whose replies come with its graceful stop
    assert report.facts["block-loop, deadline 200 ms"].startswith("deadline after ")
    eventually(lambda: held() == before, "threads, descriptors and sockets are back")


def test_many_nodes_comes_down_to_one_connection_each() -> None:
    rig = ManyNodes(6, 4)
    try:
        assert rig.connected() == 24
        idle, _, _ = rig.shrink(pending=False)
        assert (rig.connected(), idle.pending, idle.connections_stopped) == (6, 0, 18)
        busy, _, _ = rig.shrink(pending=True)
        assert (rig.connected(), busy.pending, busy.delivered, busy.connections_stopped) == (6, 18, 18, 18)
        assert rig.close_by_hand(reset=True) > 0
    finally:
        rig.close()
    assert rig.wrong == []


def test_an_idle_connection_holds_400_bytes_at_most() -> None:
    """New or used; what the MRConn, its transport and its places in the tables come to, and the counters in C."""
    rt = ThreadsRuntime(seed=1)
    with ShardProcess(rt, 1) as shards:
        for used in (False, True):
            conns = IdleConns(rt, shards.endpoints[0], nodes=10)
            try:
                each = conns.bytes_each(31, used)
            finally:
                conns.close()
            assert 300 < each <= GOAL_B, f"used: {used}"  # below that, something was not counted


def test_bytes_are_counted() -> None:
    assert 1000 <= count_bytes(lambda: [bytes(967)]) <= 1200
    assert count_bytes(lambda: None) < 100
    if heap_in_use():
        assert 10 <= heap_bytes_each(lambda number: PendingTable(), 100) <= 10_000


def test_resizes_leave_nothing_behind() -> None:
    start, *others = resize_often(52, 2, lambda line: None)
    assert [held.resizes for held in others] == [26, 52]
    assert [held.counts for held in others] == [start.counts] * 2
    assert (others[-1].traced - start.traced) / 52 < 10 * FLAT_B  # fifty divide what was made once by little


# --- the soak


@pytest.mark.parametrize("policy", ["upstream-7410", "shrink-drain-event"])
def test_every_query_has_an_outcome(policy: str) -> None:
    run = SoakRun(SoakSpec(get_policy(policy), queries=1500, resizes=15, clients=12, topology_share=0.5))
    result = run.carry_out()
    assert result.wrong == []
    ledger = result.queries
    assert (ledger.sent, ledger.replied + ledger.failed, ledger.lost, ledger.mismatched) == (1500, 1500, 0, 0)
    assert result.coordinator["submitted"] == 1500
    assert result.resizes["asked"] == 15
    assert result.resizes["grown"] > 0
    assert result.resizes["shrunk"] > 0
    assert result.receipts["lost"] == 0
    assert sum(result.receipts.get(key, 0) for key in ("drained", "deadline", "nothing-pending", "superseded")) == 15
    assert result.topologies > 0
    assert run.clean
    assert result.to_json()["ok"] is True


def test_the_ledger_adds_up_and_keeps_a_bounded_number_of_reasons() -> None:
    ledger = Ledger(sent=200)
    for number in range(100):
        ledger.fail(f"reason {number}")
    assert ledger.failed == 100
    assert len(ledger.by_reason) == 65
    assert ledger.by_reason["other reasons"] == 36


def run_script(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50
    )


def test_ctrl_c_ends_the_soak_early_with_its_sums() -> None:
    command = [sys.executable, "bench/soak.py", "--queries", "10000000", "--resizes", "10", "--json", "-"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as soak:
        assert soak.stderr is not None
        assert "queries" in soak.stderr.readline()  # the first line of progress: the load is under way
        soak.send_signal(signal.SIGINT)
        out, _ = soak.communicate(timeout=50)
    assert soak.returncode == 130
    result = json.loads(out)
    assert result["interrupted"] is True
    assert result["wrong"] == []
    queries = result["queries"]
    assert 0 < queries["sent"] < 10_000_000
    assert queries["sent"] == queries["replied"] + queries["failed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench/soak.py", "--policy", "shrink-drain-evnt"], "did you mean 'shrink-drain-event'"),
        (["bench/soak.py", "--queries", "0"], "below 1"),
        (["bench/run_all.py", "--only", "nope"], "no benchmark is called 'nope'"),
        (["bench/run_all.py", "commands", "--shards", "embeded:3"], "embeded"),
        (["bench/run_all.py", "seam", "--shards", "embedded:3"], "--shards is for drain, commands, fanout"),
        (["bench/run_all.py", "seam", "--compare", "/nowhere"], "/nowhere: No such file or directory"),
        (["bench/run_all.py", "seam", "--compare", "bench/README.md"], "no result of run_all.py --json"),
        (["bench/many_nodes.py", "--nodes", "5000"], "1 to 4096"),
    ],
)
def test_wrong_arguments_end_with_2_and_one_line(words: list[str], said: str) -> None:
    done = run_script(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_run_all_lists_its_benchmarks() -> None:
    done = run_script("bench/run_all.py", "--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(run_all.NAMES)


def test_run_all_writes_json_alone() -> None:
    done = run_script("bench/run_all.py", "seam", "--quick", "--json", "-")
    assert done.returncode == 0
    data = json.loads(done.stdout)
    assert [report["name"] for report in data["benchmarks"]] == ["seam"]
    assert data["machine"]["cpus"] == os.cpu_count()
    assert data["command"] == "bench/run_all.py seam --quick --json -"
    assert data["failures"] == []
    assert all(row["samples"] for case in data["benchmarks"][0]["cases"] for row in case["rows"])


# --- comparing


def result(ratio: float, **other: Any) -> dict[str, Any]:
    """What run_all.py --json writes, as far as a comparison reads it."""
    machine = {**describe_machine(), **other}
    rows = [Row("base", False, [10.0 * ratio]), Row("own", True, [10.0]), Row("limit", False, [1.0])]
    report = Report("r", [tabulate("title", US, rows, ["base"], limits=["limit"])], {}, "so it is")
    return {"machine": machine, "benchmarks": [report.to_json()]}


def report_of(ratio: float) -> Report:
    rows = [Row("base", False, [10.0 * ratio]), Row("own", True, [10.0]), Row("limit", False, [1.0])]
    return Report("r", [tabulate("title", US, rows, ["base"], limits=["limit"])])


def test_a_comparison_is_of_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps(result(2.0)))
    found = changes(load(str(old), describe_machine()), [report_of(5.0), Report("new one")])
    assert [(each.row, each.baseline, each.old, each.new, each.factor) for each in found] == [
        ("own", "base", 2.0, 5.0, 2.5)
    ]
    print_changes(output(), found, str(old))
    said = capsys.readouterr().out
    for expected in ("r: title", "2.00x", "5.00x", "2.50", "of 1 ratios 1 are better and 0 worse"):
        assert expected in said


@pytest.mark.parametrize(
    ("new", "said"),
    [(5.0, "1 are better and 0 worse"), (0.5, "0 are better and 1 worse"), (1.9, "1 are as they were")],
)
def test_a_change_within_the_noise_is_none(new: float, said: str) -> None:
    assert said in conclusion(changes(result(2.0), [report_of(new)]))


def test_nothing_in_common_is_said() -> None:
    assert conclusion(changes(result(2.0), [Report("other")])) == "the two runs have no row in common"


@pytest.mark.parametrize("other", [{"cpus": 4096}, {"cpu": "another"}, {"switch_interval_s": 1.0}, {"python": "3.99"}])
def test_a_result_of_another_machine_is_refused_in_one_line(tmp_path: Path, other: dict[str, Any]) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps(result(2.0, **other)))
    done = run_script("bench/run_all.py", "seam", "--compare", str(old))
    assert done.returncode == 2
    assert done.stdout == ""
    complaint = done.stderr.splitlines()[-1]
    assert "of another machine, and not to be compared" in complaint
    assert str(*other.values()) in complaint


def test_run_all_compares_with_an_older_result(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    assert run_script("bench/run_all.py", "seam", "--quick", "--json", str(old)).returncode == 0
    done = run_script("bench/run_all.py", "seam", "--quick", "--compare", str(old), "--json", "-")
    assert done.returncode == 0
    compared = json.loads(done.stdout)["compared"]
    assert compared["with"] == str(old)
    assert compared["conclusion"].startswith(f"of {len(compared['changes'])} ratios ")
    assert {change["benchmark"] for change in compared["changes"]} == {"seam"}
    assert all(change["factor"] == change["new"] / change["old"] for change in compared["changes"])


@pytest.mark.parametrize("name", run_all.WITH_SHARDS)
def test_shards_are_passed_on(name: str) -> None:
    report = run_all.benchmark(name, "embedded-unix:2" if name == "drain" else "embedded:2")(SMOKE, lambda line: None)
    check_structure(report)
    if name == "drain":
        assert "2 nodes x 13" in report.cases[0].note
        assert "embedded-unix:2" in report.cases[0].note
    else:
        assert report.facts["server"] == "an embedded shard, TCP"


def test_the_microbenchmarks_compute_what_they_say() -> None:
    """Each once, without the clock: pytest-benchmark's own switch for a test suite."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-disable"]
    environ = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [*command, "bench/test_micro.py"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout


@pytest.mark.parametrize("script", ["run_all", "orders", "soak", "many_nodes", "backfill", "pool_orders"])
def test_wrong_arguments_are_one_line(script: str) -> None:
    done = subprocess.run(
        [sys.executable, f"bench/{script}.py", "--no-such-thing"], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert f"{script}.py: error: " in line


def test_ctrl_c_keeps_what_was_measured_before() -> None:
    command = [sys.executable, "bench/run_all.py", "--quick", "--json", "-", "replies", "pool", "seam"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        assert bench.stderr is not None
        assert [bench.stderr.readline() for _ in range(2)] == ["replies\n", "pool\n"]
        bench.send_signal(signal.SIGINT)
        out, err = bench.communicate(timeout=50)
    assert (bench.returncode, err) == (130, "bench/run_all.py: not run: pool: interrupted, with the rest\n")
    assert [each["name"] for each in json.loads(out)["benchmarks"]] == ["replies"]
