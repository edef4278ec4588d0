"""ShardProcess: embedded shards in a process of their own, tied to ours.

Role: shards that share the interpreter with the coordinator would share its interpreter lock too, and so be part of
what is measured. This starts a child that hosts them all, and talks to it over the control line
(`coordemu.shards.shard_control`).

The child has no pipe of ours, is in a session of its own (Ctrl-C does not reach it), and ends when the lifeline does:
at `stop`, and when this process dies in whatever way. A process *forked* from this one without exec inherits the
lifeline and keeps the child alive until it, too, has ended.

Thread: any, one at a time; each control command has a short connection of its own. Upstream: none. Left out: several
processes for one fleet (one of them serves about as much as one coordinator process can ask).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import hiredis

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.resp_client import RespClient, RespClientError, ask
from coordemu.shards.shard_control import CONTROL_NAME, LOG_NAME
from coordemu.shards.shard_errors import ShardError

START_TIMEOUT_S = 10
CONTROL_TIMEOUT_MS = 5_000
STOP_TIMEOUT_S = 5
LONGEST_SOCKET_DIR = 80  # a unix socket's path has 108 bytes at most


class ShardProcess:
    """count shards in one child process. `start` and `stop`, or a with statement.

    rt: for the clock and the control line.  count: 1 to 4096.  faults, password: for each shard.  unix_dir: an existing
    directory for unix sockets, None for TCP on 127.0.0.1.  removes_unix_dir: whether the child removes it at its end,
    if it is empty then, so that it goes even if everybody else was killed.  seed: of the jitter.
    """

    def __init__(
        self,
        rt: Runtime,
        count: int = 3,
        *,
        faults: FaultPlan = NO_FAULTS,
        password: str | None = None,
        unix_dir: str | None = None,
        removes_unix_dir: bool = False,
        seed: int = 1,
    ) -> None:
        self.password = password
        self._rt = rt
        self._count = count
        self._faults = faults
        self._unix_dir = unix_dir or ""
        self._removes_unix_dir = removes_unix_dir
        self._seed = seed
        self._addresses: list[Address] = []
        self._directory = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: RespClient | None = None
        self._serves = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ShardProcess pid={self.pid} shards={self._count} {'alive' if self.alive else 'not alive'}>"

    @property
    def endpoints(self) -> list[Address]:
        """Each shard's address, by index; empty before the first start. They stay the same over restarts."""
        return list(self._addresses)

    @property
    def pid(self) -> int | None:
        """The child's process id, None when none was started or it was stopped."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the child and wait until all shards listen. Does nothing while it runs.

        Raises ShardError, with nothing left behind, when it can't. Thread: any. May block, 20 s at the very most.
        """
        if self.alive:
            return self
        self.stop()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the child and wait for it; remove its directory. Idempotent. May block, 5 s at most."""
        patience_s = 0
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
            # Before its START the child does not know that this connection is its lifeline.
            patience_s = STOP_TIMEOUT_S if self._serves else 0
            self._serves = False
        if self._process is not None:
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""

    def kill(self, index: int | None = None) -> None:
        """Cut one shard off (its port closes, its connections drop), or SIGKILL the whole child (None).

        Raises ShardError when the child does not answer, or there is no such shard. May block.
        """
        if index is not None:
            self._control("KILL", index)
        elif self._process is not None:
            self._process.kill()
            self.stop()

    def restart(self, index: int | None = None) -> None:
        """Bring one shard back at its address; a child that was killed comes back whole, with the plan of the start.

        Raises ShardError when the port is taken or the child does not answer. May block.
        """
        if index is None or not self.alive:
            self.start()
        else:
            self._control("RESTART", index)

    def set_faults(self, plan: FaultPlan, index: int | None = None) -> None:
        """Change the fault plan of one shard, or of all (None). Raises ShardError. May block."""
        self._control("FAULT", "ALL" if index is None else index, str(plan))

    def statistics(self) -> list[dict[str, int]]:
        """Every shard's statistics, by index; see `EmbeddedShard.statistics`. Raises ShardError. May block."""
        answer: list[dict[str, int]] = json.loads(self._control("STATS"))
        return answer

    def _start(self) -> None:
        self._directory = private_directory()
        if self._removes_unix_dir:  # an earlier child has
            os.makedirs(self._unix_dir, mode=0o700, exist_ok=True)
        log_path = Path(self._directory, LOG_NAME)
        control_path = Path(self._directory, CONTROL_NAME)
        with log_path.open("wb") as log:
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "coordemu.shards.shard_main", self._directory, str(self._seed)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=child_environment(),
            )
        self._rt.poll_until(
            lambda: control_path.exists() or process.poll() is not None,
            2 * NS_PER_MS,
            "the shard process listens",
            START_TIMEOUT_S * NS_PER_S,
            lambda: [f"process {process.pid}"],
        )
        if not control_path.exists():
            raise self._did_not_start(log_path)
        self._lifeline = RespClient(self._rt, Address(path=str(control_path)))
        wanted = {
            "count": self._count,
            "password": self.password,
            "faults": str(self._faults),
            "unix_dir": self._unix_dir,
            "removes_unix_dir": self._removes_unix_dir,
            "addresses": [[address.host, address.port, address.path] for address in self._addresses],
        }
        try:
            answer = self._lifeline.request("START", json.dumps(wanted), timeout_ms=START_TIMEOUT_S * 1_000)
        except hiredis.ReplyError as problem:
            raise ShardError(f"shard process: {str(problem).removeprefix('ERR ')}") from problem
        except RespClientError as problem:
            raise self._did_not_start(log_path) from problem
        self._serves = True
        self._addresses = [Address(*fields) for fields in json.loads(answer)]

    def _did_not_start(self, log_path: Path) -> ShardError:
        status = None if self._process is None else self._process.poll()
        lines = log_path.read_text(errors="replace").split("\n") if log_path.exists() else []
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        how = f"did not listen within {START_TIMEOUT_S} s" if status is None else f"ended with status {status}"
        return ShardError(f"shard process {how}: {last}")

    def _control(self, *command: str | int) -> Any:
        if not self.alive:
            raise ShardError("the shard process does not run")
        address = Address(path=os.path.join(self._directory, CONTROL_NAME))
        try:
            return ask(self._rt, address, *command, timeout_ms=CONTROL_TIMEOUT_MS)
        except hiredis.ReplyError as problem:
            raise ShardError(str(problem).removeprefix("ERR ")) from problem
        except RespClientError as problem:
            raise ShardError(f"the shard process did not answer {command[0]}: {problem}") from problem


def private_directory() -> str:
    """A new directory of our own, mode 0700, whose name is short enough for a unix socket in it."""
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(
        prefix="coordemu-", dir=base if len(os.fsencode(base)) <= LONGEST_SOCKET_DIR - 20 else "/tmp"
    )


def child_environment() -> dict[str, str]:
    """Our environment, in which a child (with -P: without its working directory) finds the package where we did.

    Thread: any.
    """
    source = str(Path(__file__).resolve().parents[2])
    if os.path.basename(source) in ("site-packages", "dist-packages"):
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
