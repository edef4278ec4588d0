"""The shard process: starts, answers, is told its faults, ends with us in every way, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from coordemu.runtime.base import Address, Runtime
from coordemu.shards import shard_process
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.resp_client import RespClientError, ask
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_process import ShardProcess, private_directory

SRC = str(Path(shard_process.__file__).parents[2])


def ping(rt: Runtime, address: Address) -> Any:
    return ask(rt, address, "PING", timeout_ms=10_000)


def test_it_starts_answers_and_leaves_nothing(nothing_left: None, rt: Runtime, gone: Any) -> None:
    with ShardProcess(rt, 3) as shards:
        pid = shards.pid
        assert pid not in (None, os.getpid())
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        assert len(set(shards.endpoints)) == 3
        assert [ping(rt, address) for address in shards.endpoints] == [b"PONG"] * 3
        assert [stats["commands"] for stats in shards.statistics()] == [1, 1, 1]
        assert shards.start() is shards
        assert shards.pid == pid
        assert repr(shards) == f"<ShardProcess pid={pid} shards=3 alive>"
        directory = Path(shards._directory)
        assert directory.is_dir()
    assert gone(pid)
    assert not directory.exists()
    assert not shards.alive
    shards.stop()
    with pytest.raises(ShardError, match="does not run"):
        shards.statistics()


def test_unix_sockets_password_and_faults_of_the_start(nothing_left: None, rt: Runtime, tmp_path: Path) -> None:
    faults = FaultPlan.parse("close=after:1")
    with ShardProcess(rt, 2, faults=faults, password="gehéim", unix_dir=str(tmp_path)) as shards:
        assert [address.path for address in shards.endpoints] == [str(tmp_path / f"shard-{i}.sock") for i in (0, 1)]
        assert ask(rt, shards.endpoints[0], "AUTH", "gehéim", timeout_ms=10_000) == b"OK"
        assert b"geh" not in Path(f"/proc/{shards.pid}/cmdline").read_bytes()
        assert b"geh" not in Path(f"/proc/{shards.pid}/environ").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_outlives_everybody_removes_the_sockets_directory(
    nothing_left: None, rt: Runtime, tmp_path: Path, eventually: Any
) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    with ShardProcess(rt, 2, unix_dir=str(sockets), removes_unix_dir=True) as shards:
        assert len(list(sockets.iterdir())) == 2
        assert shards._lifeline is not None
        shards._lifeline.close()  # as the death of its parent would
        eventually(lambda: not shards.alive)
        assert not sockets.exists()
        shards.start()
        assert ping(rt, shards.endpoints[1]) == b"PONG"
    assert not sockets.exists()


def test_faults_change_while_it_runs(rt: Runtime) -> None:
    with ShardProcess(rt, 2) as shards:
        shards.set_faults(FaultPlan.parse("refuse=listen"), 1)
        assert ping(rt, shards.endpoints[0]) == b"PONG"
        with pytest.raises(RespClientError, match="refused"):
            ping(rt, shards.endpoints[1])
        shards.set_faults(FaultPlan())
        assert ping(rt, shards.endpoints[1]) == b"PONG"
        for act in (shards.kill, shards.restart, lambda i: shards.set_faults(FaultPlan(), i)):
            with pytest.raises(ShardError, match="no shard 2: there are 0 to 1"):
                act(2)


def test_one_shard_is_killed_and_restarted(rt: Runtime) -> None:
    with ShardProcess(rt, 2) as shards:
        addresses = shards.endpoints
        shards.kill(0)
        with pytest.raises(RespClientError, match="refused"):
            ping(rt, addresses[0])
        assert ping(rt, addresses[1]) == b"PONG"
        shards.restart(0)
        assert shards.endpoints == addresses
        assert ping(rt, addresses[0]) == b"PONG"


def test_the_whole_process_is_killed_and_restarted_at_its_ports(nothing_left: None, rt: Runtime, gone: Any) -> None:
    with ShardProcess(rt, 2) as shards:
        addresses, pid = shards.endpoints, shards.pid
        shards.kill()
        assert gone(pid)
        with pytest.raises(RespClientError, match="refused"):
            ping(rt, addresses[0])
        shards.restart()
        assert shards.endpoints == addresses
        assert [ping(rt, address) for address in addresses] == [b"PONG"] * 2


def test_a_process_that_was_killed_behind_our_back(nothing_left: None, rt: Runtime, eventually: Any) -> None:
    with ShardProcess(rt, 1) as shards:
        assert shards.pid is not None
        os.kill(shards.pid, signal.SIGKILL)
        eventually(lambda: not shards.alive)
        with pytest.raises(ShardError, match="does not run"):
            shards.set_faults(FaultPlan())
        shards.restart(0)
        assert ping(rt, shards.endpoints[0]) == b"PONG"


def test_a_stopped_process_is_a_control_line_without_an_answer(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_process, "CONTROL_TIMEOUT_MS", 30)
    monkeypatch.setattr(shard_process, "STOP_TIMEOUT_S", 0.05)
    with ShardProcess(rt, 1) as shards:
        assert shards.pid is not None
        os.kill(shards.pid, signal.SIGSTOP)
        with pytest.raises(ShardError, match="did not answer STATS: no answer within 30 ms"):
            shards.statistics()
    assert not shards.alive  # by force


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": 2, "unix_dir": "/nonexistent"}])
def test_what_can_not_be_started_is_said_in_one_line(
    nothing_left: None, rt: Runtime, arguments: dict[str, Any]
) -> None:
    shards = ShardProcess(rt, **arguments)
    with pytest.raises(ShardError, match=r"^shard process: (0 shards: not within|.*No such file)"):
        shards.start()
    assert not shards.alive
    assert shards.endpoints == []


def test_a_child_that_dies_at_once(nothing_left: None, rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_process.sys, "executable", "/bin/false")
    with pytest.raises(ShardError, match=r"^shard process ended with status 1: it said nothing$"):
        ShardProcess(rt).start()


def test_a_child_that_never_listens(
    nothing_left: None, rt: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho thinking\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(shard_process.sys, "executable", str(program))
    monkeypatch.setattr(shard_process, "START_TIMEOUT_S", 0.3)
    with pytest.raises(ShardError, match=r"^shard process did not listen within 0.3 s: thinking$"):
        ShardProcess(rt).start()


def test_it_holds_many_shards_and_raises_its_own_limit_of_files(rt: Runtime) -> None:
    with ShardProcess(rt, 200) as shards:
        assert len(set(shards.endpoints)) == 200
        assert ping(rt, shards.endpoints[-1]) == b"PONG"
        assert shards.pid is not None
        soft, hard = psutil.Process(shards.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert soft == hard


ORPHAN_MAKER = """
import os, signal, sys
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import RedisServer
from coordemu.shards.shard_process import ShardProcess
rt = ThreadsRuntime(seed=1)
shards = ShardProcess(rt, 2).start()
server = RedisServer(rt).start()
print(shards.pid, shards._directory, server.pid, server._directory, server._watch._shell.pid, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "interrupted":
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("how", ["killed", "interrupted", "ended"])
def test_children_die_with_their_parent(nothing_left: None, eventually: Any, gone: Any, how: str) -> None:
    """A parent that stops nothing, since it was killed or forgot: the shard process and Redis end, with their files."""
    environment = {**os.environ, "PYTHONPATH": SRC, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN_MAKER, how],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == {"killed": -signal.SIGKILL, "interrupted": -signal.SIGINT, "ended": 0}[how]
    shards_pid, shards_directory, server_pid, server_directory, shell_pid = done.stdout.split()
    for pid in (shards_pid, server_pid, shell_pid):
        eventually(lambda pid=pid: gone(int(pid)))
    for directory in (shards_directory, server_directory):
        eventually(lambda directory=directory: not os.path.exists(directory))


def test_directories_have_short_names_even_where_temporary_ones_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(shard_process.tempfile, "gettempdir", lambda: str(deep))
    made = private_directory()
    assert len(made) < shard_process.LONGEST_SOCKET_DIR
    os.rmdir(made)
