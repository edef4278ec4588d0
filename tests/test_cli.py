"""The command line from end to end, as a subprocess: verdicts, output, exit codes, bad input, what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

import coordemu
from coordemu import cli as cli_module
from coordemu.coord.resize_policy import POLICIES
from coordemu.lab.result import Result
from coordemu.lab.scenario import SCENARIOS
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import RedisServer

COMMAND = [sys.executable, "-m", "coordemu.cli"]
# For what is refused before anything runs: "in under 5 s", the interpreter's start included.
AT_ONCE_S = 20
RUN_LIMIT_S = 55
QUICK = ["--warm", "50ms", "--after", "60ms"]

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(footprint: Any) -> Cli:
    """`cli(*args, code=0, limit_s=...)`: run the command, check its exit code and that its output is plain text."""

    def run(*args: str, code: int = 0, limit_s: float = RUN_LIMIT_S, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *args], capture_output=True, text=True, timeout=limit_s, env={**os.environ, **env}
        )
        assert done.returncode == code, (args, done.stdout, done.stderr)
        assert "\x1b" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


Together = Callable[..., list[subprocess.CompletedProcess[str]]]


@pytest.fixture
def together(cli: Cli) -> Together:
    """`together([...], [...], code=0)`: several commands, two at a time: they wait for most of their time."""

    def run(*commands: list[str], code: int = 0) -> list[subprocess.CompletedProcess[str]]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda args: cli(*args, code=code), commands))

    return run


def results(text: str) -> dict[str, Result]:
    """What --json wrote, by policy; the sums of each have been checked on the way in."""
    found = [Result.from_json(each) for each in json.loads(text)["results"]]
    for result in found:
        assert sum(result.queries.by_reason.values()) == result.queries.failed
        assert (result.verdict in ("deadlocked", "unresponsive", "lost")) == bool(result.queries.lost)
    return {result.policy["name"]: result for result in found}


# ---- verdicts


def test_every_policy_shows_what_it_is_expected_to(together: Together, tmp_path: Path) -> None:
    """All that have a name but the one that stalls for five seconds, each query loading documents."""
    names = [name for name in POLICIES if name != "shrink-drain-literal"]
    halves = names[::2], names[1::2]
    paths = [tmp_path / f"half-{number}.json" for number in (0, 1)]
    options = ["--load-docs", "1", "--latency", "40ms", *QUICK]
    commands = [
        ["compare", "--policies", ",".join(half), *options, "--json", str(path)]
        for half, path in zip(halves, paths, strict=True)
    ]
    for half, done in zip(halves, together(*commands), strict=True):
        assert "refuted" not in done.stdout
        assert [line.partition(" (")[0] for line in done.stderr.splitlines()] == half
        for name in half:
            assert f"│ {name} " in done.stdout
    found = {name: result for path in paths for name, result in results(path.read_text()).items()}
    assert sorted(found) == sorted(names)
    for name, result in found.items():
        assert result.verdict == POLICIES[name].expected, (name, result.why)
        assert result.as_expected
        if result.verdict in ("healthy", "refused"):
            assert (result.queries.lost, result.queries.failed) == (0, 0)
            assert result.resources["before"]["threads"] == result.resources["after"]["threads"]
            assert result.resources["before"]["fds"] == result.resources["after"]["fds"]
    # Which workers were not yet at the barrier, and how many, is the moment's: one that had just no query waits there.
    assert re.fullmatch(
        r"main waits for barrier 'workers: terminate when empty', which misses (workers-\d+)( \(and \d+ more\))?; "
        r"\1 waits for lock 'module lock', held by main: a cycle",
        found["upstream-before"].cycle,
    )
    assert re.search(
        r"workers-\d+ waits for lock 'module lock', held by main: a cycle$", found["wait-workers-first"].cycle
    )
    assert found["writeup-before"].cycle.startswith("main waits for event 'query q")
    assert found["writeup-before"].cycle.endswith("its replies dropped: an orphan")
    for name in ("upstream-before", "wait-workers-first"):
        assert found[name].config_set_ms == (None,)
        assert found[name].receipts == ()
    for name in ("writeup-fix", "shrink-drain-event", "shrink-drain-timer"):
        assert found[name].drain_outcome == "drained"
        [receipt] = found[name].receipts
        assert receipt["pending"] == receipt["delivered"] > 0
    assert "paused pool" in found["writeup-fix-pool-pause"].why
    assert found["writeup-fix-pool-pause"].workers == (12, 12)


def test_the_drain_that_sleeps_on_the_io_thread(together: Together) -> None:
    literal = ["run", "--policy", "shrink-drain-literal", *QUICK, "--json", "-"]
    dropped, delivered = together(
        [*literal, "--drain-timeout", "300ms", "--expect", "lost"],
        [*literal, "--stop", "graceful", "--drain-timeout", "1200ms", "--expect", "degraded"],
    )
    [result] = results(dropped.stdout).values()
    assert result.drain_outcome == "deadline"
    assert result.drain_ms is not None
    assert result.drain_ms >= 300
    assert result.receipts[0]["lost"] == result.receipts[0]["pending"] > 0
    assert result.ping.max_gap_ms < 1000
    # With a stop that delivers, nothing is lost; the queries have stood still all the same.
    [result] = results(delivered.stdout).values()
    assert "no query ended for 1" in result.why
    assert result.receipts[0]["delivered"] == result.receipts[0]["pending"] > 0
    assert result.ping.max_gap_ms < 1000


def test_before_and_after_in_one_command(cli: Cli, tmp_path: Path) -> None:
    paths = tmp_path / "results.json", tmp_path / "trace.jsonl"
    done = cli("run", *QUICK, "--json", str(paths[0]), "--trace", str(paths[1]))
    found = results(paths[0].read_text())
    assert [(name, result.verdict) for name, result in found.items()] == [
        ("writeup-before", "deadlocked"),
        ("writeup-fix", "healthy"),
    ]
    assert done.stderr == ""
    for part in (
        "writeup-before: WORKERS 12 -> 0, connections per node 13 -> 1",
        "writeup-fix: WORKERS 12 -> 0, connections per node 13 -> 1",
        "verdict: deadlocked: main waits for event",
        "verdict: healthy: all ",
        "│ queries paused ",
        "│ stop 12 connections ",
        "│ remove 12 threads ",
        "│ new queries ",
    ):
        assert part in done.stdout
    trace = [json.loads(line) for line in paths[1].read_text().splitlines()]
    assert {line["policy"] for line in trace} == set(found)
    assert "MRConnManager_Shrink" in {line["upstream"] for line in trace}
    assert set(trace[0]) == {"policy", "at_ms", "thread", "upstream", "ours", "detail"}


def test_a_refuted_expectation_is_said_and_is_exit_code_1(cli: Cli, together: Together) -> None:
    faulty = ["--faults", "close=after:2", "--clients", "3", *QUICK]
    done, compared = together(
        ["run", "--policy", "upstream-7410", *faulty], ["compare", "--policies", "upstream-7410", *faulty], code=1
    )
    assert "verdict: degraded: " in done.stdout
    assert "expected healthy: refuted by this run" in done.stdout
    assert "failed: " in done.stdout
    cli("run", "--policy", "upstream-7410", *faulty, "--expect", "degraded")
    assert compared.stdout.splitlines()[-1] == "refuted: upstream-7410: expected healthy, got degraded"


def test_repeats_show_the_share_of_each_verdict(cli: Cli) -> None:
    few = ["--policy", "upstream-7410", "--workers", "3:0", "--clients", "3", *QUICK, "--repeat", "2"]
    done = cli("run", *few)
    assert "healthy 2/2" in done.stdout
    assert done.stdout.splitlines()[-1] == "upstream-7410: healthy 100% of 2 runs"
    done = cli("run", *few, "--expect", "deadlocked", "--json", "-", code=1)
    seeds = [each["seed"] for each in json.loads(done.stdout)["results"]]
    assert seeds == [1, 2]


def test_what_goes_to_standard_output_alone(together: Together) -> None:
    few = ["--workers", "3:0", "--clients", "3", *QUICK]
    run, chain, compare = together(
        ["run", "--policy", "upstream-7410", *few, "--trace", "-"],
        ["chain", *few, "--json", "-"],
        ["compare", "--policies", "upstream-7410, shrink-drain-event", *few, "--json", "-"],
    )
    assert "set_workers" in {json.loads(line)["upstream"] for line in run.stdout.splitlines()}
    assert results(chain.stdout)["upstream-7410"].verdict == "healthy"
    assert list(results(compare.stdout)) == ["upstream-7410", "shrink-drain-event"]
    assert run.stderr == chain.stderr == ""
    assert compare.stderr == "upstream-7410 (1/2): healthy\nshrink-drain-event (2/2): healthy\n"


def test_the_chain_of_seven_steps(cli: Cli) -> None:
    done = cli("chain", *QUICK)
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    steps = [row for row in rows if row[1].strip()]
    assert [row[1].strip() for row in steps] == [str(n) for n in range(1, 8)]
    assert [row[3].strip() for row in steps] == ["main"] * 5 + ["io 0"] * 2
    assert "never" not in done.stdout


def test_64_io_threads_and_sizes_above_the_limit(together: Together) -> None:
    run = ["run", "--policy", "upstream-7410", *QUICK]
    many, large = together(
        [*run, "--io-threads", "64", "--clients", "2", "--json", "-"], [*run, "--workers", "17:0", "--no-limits"]
    )
    [result] = results(many.stdout).values()
    assert (result.verdict, len(result.receipts)) == ("healthy", 64)
    assert len(result.timeline) < 16
    assert "WORKERS 17 -> 0, connections per node 18 -> 1" in large.stdout


def test_stacks(cli: Cli) -> None:
    done = cli("run", "--policy", "writeup-before", "--stacks", *QUICK)
    assert "who waits for what" in done.stdout
    assert "Queries._wait_on_main" in done.stdout


# ---- real servers


def test_real_redis_servers_by_url(cli: Cli, rt: ThreadsRuntime) -> None:
    with RedisServer(rt) as one, RedisServer(rt) as two, RedisServer(rt) as three:
        url = "redis://" + ",".join(str(server.address) for server in (one, two, three))
        done = cli("run", "--shards", url, *QUICK, "--json", "-")
        for server in (one, two, three):
            assert server.alive  # they are not ours to end
    found = results(done.stdout)
    assert {name: result.verdict for name, result in found.items()} == {
        "writeup-before": "deadlocked",
        "writeup-fix": "healthy",
    }
    for result in found.values():
        assert result.scenario["shards"] == url
        assert result.as_expected
    assert found["writeup-fix"].receipts[0]["delivered"] > 0


def test_a_redis_server_killed_in_the_middle_of_the_drain(together: Together) -> None:
    times = ["--latency", "150ms", "--warm", "50ms", "--restart-after", "100ms", "--after", "900ms"]
    killed = ["run", "shard-killed", "--shards", "redis:3", *times, "--json", "-"]
    for done in together([*killed, "--policy", "shrink-drain-event"], [*killed, "--policy", "writeup-fix"]):
        [result] = results(done.stdout).values()
        assert result.verdict == "degraded", result.why
        assert result.queries.failed > 0
        [receipt] = result.receipts
        # The killed server may have answered some before it died; the others answered all.
        failed = sorted(node["failed"] for node in receipt["by_node"].values())
        assert failed[:2] == [0, 0]
        assert failed[2] == receipt["failed"] > 0
        assert receipt["pending"] == receipt["delivered"] + receipt["failed"]
        rows = {row.action: row.result for row in result.timeline}
        assert rows["the shard is back"].startswith("every connection stands after ")
        assert rows["new queries"] == "answered"


# ---- what is refused


BAD_USE: list[tuple[list[str], str]] = [
    (["--workers", "12:-1"], "WORKERS -1 is below 0"),
    (["--workers", "17:0"], "WORKERS 17 is above the limit of 16 (--no-limits lifts upstream's limit)"),
    (["--policy", "nope"], "no policy is called 'nope'; did you mean 'upstream-7410'? (see: coordemu policies)"),
    (["mod-1165"], "no scenario is called 'mod-1165'; did you mean 'mod-11658'? (see: coordemu scenarios)"),
    (["--latency", "fast"], "--latency: 'fast' is no duration; write for example 20ms, 1.5s, 500us or 0"),
    (["--faults", "sulk"], "fault plan: 'sulk' is none of delay,"),
    (["--shards", "somewhere"], "--shards: 'somewhere' is none of embedded:N,"),
    (["--clients", "0"], "--clients: 0 is not within 1..10000"),
    (["--io-threads", "257"], "--io-threads: 257 is not within 1..256"),
    (["--json", "-", "--trace", "-"], "--json and --trace can't go to the same place"),
]


@pytest.mark.parametrize(("args", "says"), BAD_USE, ids=[" ".join(args) for args, _ in BAD_USE])
def test_bad_use_is_exit_code_2_and_one_clear_line(cli: Cli, args: list[str], says: str) -> None:
    done = cli("run", *args, code=2, limit_s=AT_ONCE_S)
    assert done.stdout == ""
    [complaint] = done.stderr.splitlines()
    assert complaint.startswith("Error: ")
    assert says in complaint


def fails(cli: Cli, *args: str) -> str:
    """The one line with which a run that the environment does not allow ends, at once."""
    done = cli("run", *QUICK, *args, code=3, limit_s=AT_ONCE_S)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def test_files_that_can_not_be_written(cli: Cli, tmp_path: Path) -> None:
    for option in ("--json", "--trace"):
        assert fails(cli, option, str(tmp_path)) == f"can't write '{tmp_path}': Is a directory"
        missing = tmp_path / "missing" / "x.json"
        assert fails(cli, option, str(missing)) == f"can't write '{missing}': No such file or directory"
    # Where even root may not write.
    assert fails(cli, "--json", "/proc/results.json").startswith("can't write '/proc/results.json': ")
    kept = tmp_path / "kept.json"
    kept.write_text("from an earlier run")
    fails(cli, "--json", str(kept), "--shards", "redis://127.0.0.1:1")
    assert kept.read_text() == "from an earlier run"
    fails(cli, "--json", str(tmp_path / "new.json"), "--shards", "redis://127.0.0.1:1")
    assert not (tmp_path / "new.json").exists()


def test_a_file_that_can_not_hold_the_results(cli: Cli) -> None:
    """The disk is full: the report has been printed by then."""
    done = cli("run", "--policy", "upstream-7410", *QUICK, "--json", "/dev/full", code=3)
    assert "verdict: healthy" in done.stdout
    assert done.stderr == "Error: can't write '/dev/full': No space left on device\n"


def test_more_connections_than_descriptors(cli: Cli) -> None:
    assert "file descriptors, and the limit is " in fails(cli, "--conn-per-shard", "1000000")


@contextmanager
def strange_server(greet: bytes, stay: bool) -> Iterator[str]:
    """A server that speaks no RESP: it says `greet` to whoever comes, and hangs up or stays silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                guest, _ = listener.accept()
            except OSError:
                return
            kept.append(guest)
            if greet:
                guest.sendall(greet)
            if not stay:
                guest.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for guest in kept:
            guest.close()


@pytest.mark.parametrize(
    ("greet", "stay", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", True, "RESP"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", False, "RESP"),
        (b"+HELLO\r\n", True, "so it is no Redis server"),
        (b"", True, "no answer"),
        (b"", False, "clos"),
    ],
    ids=["ssh", "http", "another RESP server", "silent", "hangs up"],
)
def test_servers_that_are_no_shards(cli: Cli, greet: bytes, stay: bool, says: str) -> None:
    with strange_server(greet, stay) as address:
        line = fails(cli, "--shards", f"redis://{address}")
    assert line.startswith(f"shard {address}: ")
    assert says in line


def test_shards_that_are_not_there_or_want_a_password(cli: Cli, rt: ThreadsRuntime, tmp_path: Path) -> None:
    assert fails(cli, "--shards", "redis://127.0.0.1:1") == "shard 127.0.0.1:1: Connection refused"
    assert fails(cli, "--shards", f"unix://{tmp_path}/s") == f"shard unix:{tmp_path}/s: No such file or directory"
    with RedisServer(rt, password="secret") as server:
        wrong = fails(cli, "--shards", f"redis://:guess@{server.address}")
        assert wrong == f"shard {server.address}: wrong password (WRONGPASS)"
        assert fails(cli, "--shards", f"redis://{server.address}") == (
            f"shard {server.address}: needs a password (NOAUTH)"
        )
        assert "is not a cluster" in fails(cli, "--shards", f"cluster://:secret@{server.address}")


def test_no_server_to_start(cli: Cli, tmp_path: Path) -> None:
    """A redis-server that is none: the run's own shards can't be had."""
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'not today'\nexit 9\n")
    program.chmod(0o700)
    done = cli("run", "--shards", "redis:2", code=3, limit_s=AT_ONCE_S, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stderr == "Error: redis-server ended with status 9: not today\n"


# ---- ended from outside


@pytest.fixture
def start(footprint: Any, eventually: Callable[..., Any]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(shards)`: a long run, returned in the midst of its load, or (early) as soon as it has a child."""
    started: list[subprocess.Popen[str]] = []

    def connected(server: str) -> bool:
        for process in footprint.processes(server):
            # One that was counted may have ended before it is asked: a server that found its port taken, say.
            with suppress(psutil.NoSuchProcess):
                if len(process.net_connections("all")) > 13:
                    return True
        return False

    def make(shards: str = "embedded:3", early: bool = False) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, "run", "--policy", "upstream-7410", "--warm", "100s", "--shards", shards],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        if early:
            eventually(lambda: footprint.processes("child_main"), "the child runs")
        else:
            server = "redis-server" if shards.startswith("redis") else "shard_main"
            eventually(lambda: connected(server), "the shards have their connections", patience_s=20)
        return process

    yield make
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c(start: Callable[..., Any], footprint: Any, eventually: Callable[..., Any]) -> None:
    process = start("embedded-unix:3")
    eventually(lambda: [path for path in footprint.files() if path.is_socket()], "sockets")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=AT_ONCE_S)
    assert process.returncode in (1, 130)
    assert (out, err.strip()) == ("", "Aborted!")
    assert footprint.processes("child_main") == []


def test_ctrl_c_with_servers_of_our_own(start: Callable[..., Any], footprint: Any) -> None:
    process = start("redis:2")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=AT_ONCE_S)
    assert (out, err.strip()) == ("", "Aborted!")
    assert footprint.processes("child_main") == []


def test_a_child_that_is_killed(start: Callable[..., Any], footprint: Any) -> None:
    process = start()
    [child] = footprint.processes("child_main")
    child.kill()
    out, err = process.communicate(timeout=AT_ONCE_S)
    assert process.returncode == 3
    assert (out, err) == ("", "Error: the run's process was killed by SIGKILL: it said nothing\n")


@pytest.mark.parametrize(("by", "early"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGKILL, True)])
def test_a_command_that_is_killed(start: Callable[..., Any], by: signal.Signals, early: bool) -> None:
    """What is left of it ends by itself; the fixture looks."""
    process = start("embedded-unix:2", early)
    process.send_signal(by)
    assert process.communicate(timeout=AT_ONCE_S) == ("", "")
    assert process.returncode == -by


# ---- the rest


def test_lists(cli: Cli) -> None:
    policies = cli("policies", limit_s=AT_ONCE_S).stdout
    for name, policy in POLICIES.items():
        assert f"│ {name} " in policies
        assert policy.expected in policies
    scenarios = cli("scenarios", limit_s=AT_ONCE_S).stdout
    for name in SCENARIOS:
        assert f"│ {name} " in scenarios
    assert cli("--version", limit_s=AT_ONCE_S).stdout == f"coordemu, version {coordemu.__version__}\n"
    assert "compare" in cli("-h", limit_s=AT_ONCE_S).stdout
    for command in ("run", "compare", "chain"):
        assert "--shards URL" in cli(command, "--help", limit_s=AT_ONCE_S).stdout


def test_a_terminal_that_knows_no_boxes(cli: Cli) -> None:
    assert cli("policies", limit_s=AT_ONCE_S, PYTHONIOENCODING="ascii").stdout.isascii()


def test_a_reader_that_goes_away(footprint: Any) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*COMMAND, "policies"], stdout=writing, stderr=subprocess.PIPE, timeout=AT_ONCE_S)
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_bench_passes_its_arguments_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[list[str]] = []

    def call(command: list[str]) -> int:
        called.append(command)
        return 5

    monkeypatch.setattr("coordemu.cli.subprocess.call", call)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench").mkdir()
    script = tmp_path / "bench" / "run_all.py"
    script.touch()
    assert CliRunner().invoke(cli_module.main, ["bench", "--quick", "drain"]).exit_code == 5
    assert called == [[sys.executable, str(script), "--quick", "drain"]]


def test_bench_outside_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_module, "__file__", str(tmp_path / "lib" / "coordemu" / "cli.py"))
    done = CliRunner().invoke(cli_module.main, ["bench"])
    assert done.exit_code == 3
    assert done.output.startswith("Error: the benchmarks are part of the source checkout")
