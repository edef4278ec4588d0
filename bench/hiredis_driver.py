"""Builds, starts and asks `bench/hiredis_driver.c`: the same load from C, by hiredis and libuv.

Role: a contender that shows what an event loop without an interpreter does with 13 connections. It is compiled each
time, by the compiler that Python was built with (or by ``CC``), into a directory of its own that goes with it, so that
nothing stale is ever measured. Where compiler, headers or libraries are missing, `HiredisDriver` raises `NotHere` with
the reason in one line, and `bench.commands` leaves its rows out and says so.

Thread: any, one at a time; everything blocks, within limits. Upstream: src/coord/rmr/conn.c, whose connections are
hiredis on libuv. Left out: other commands than GET, unix sockets, passwords.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Self

from bench.clients import CONNS, IN_FLIGHT, KEY, VALUE, NotHere, WrongReply
from coordemu.runtime.base import Address

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
LIBRARIES = ("hiredis", "libuv")
BUILD_TIMEOUT_S = 60
# Longer than the driver's own patience for connections and last replies, so that it says itself what is wrong.
PATIENCE_S = 10
STATUS_WRONG_REPLY, STATUS_WRONG_USE = 1, 2


class DriverFailed(RuntimeError):
    """The driver was built and has ended, or says nothing any more. The text is one line."""


def build(directory: Path) -> Path:
    """Compile the driver into the directory, and see that it can be run. Returns the program.

    The compiler's warnings go to the file "warnings" beside it. Raises NotHere. Blocks for a second.
    """
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    program = directory / "hiredis_driver"
    command = [*compiler, *FLAGS, *_flags("--cflags"), str(SOURCE), "-o", str(program), *_flags("--libs")]
    done = _run(command, BUILD_TIMEOUT_S)
    if done.returncode:
        raise NotHere(_complaint(done.stderr) or f"{compiler[0]} ends with status {done.returncode}")
    (directory / "warnings").write_text(done.stderr)
    # A library that the loader doesn't find, or a directory of temporary files that runs no programs.
    tried = _run([str(program)], PATIENCE_S)
    if tried.returncode != STATUS_WRONG_USE:
        raise NotHere(_complaint(tried.stderr) or f"it was built, and ends with status {tried.returncode}")
    return program


def _run(command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Raises NotHere when it can't be run, or does not end."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)
    except OSError as err:
        raise NotHere(f"{command[0]}: {err.strerror}") from err
    except subprocess.TimeoutExpired as err:
        raise NotHere(f"{command[0]} takes more than {timeout_s:g} s") from err


def _flags(which: str) -> list[str]:
    """pkg-config's, else what is right where the libraries are in the usual places."""
    usual = [] if which == "--cflags" else ["-lhiredis", "-luv"]
    # hiredis' own flag points into its directory, and its adapters are to be found from the one above.
    wanted = [[which, *LIBRARIES], *([["--variable=includedir", "hiredis"]] if which == "--cflags" else [])]
    flags: list[str] = []
    for words in wanted:
        try:
            done = _run(["pkg-config", *words], PATIENCE_S)
        except NotHere:
            return usual
        if done.returncode:
            return usual
        said = shlex.split(done.stdout)
        flags += [f"-I{each}" for each in said] if words[0] != which else said
    return flags


def _complaint(stderr: str) -> str:
    """The compiler's or linker's first line that says what is missing, without the place in our source."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # collect2 only says that the linker has said something.
    telling = [line for line in lines if not line.startswith("collect2:")] or lines
    words = "error", "cannot find", "undefined reference"
    worst = [line for line in telling if any(word in line for word in words)] or telling
    return worst[0].removeprefix(f"{SOURCE}:").lstrip("0123456789: ") if worst else ""


class HiredisDriver:
    """The running driver, connected. A context manager; close it, or it ends with this process."""

    def __init__(self, address: Address, conns: int = CONNS, value: str = VALUE) -> None:
        """Build, start, connect. value: what GET must answer. Raises NotHere, DriverFailed."""
        self._directory = tempfile.TemporaryDirectory(prefix="hiredis-driver-")
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._unread = b""
        try:
            program = build(Path(self._directory.name))
            self.warnings = (program.parent / "warnings").read_text()
            self._stderr = (program.parent / "stderr").open("w+b")
            command = [str(program), address.host, str(address.port), str(conns), KEY, value]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0
            )
            ready = self._answer(PATIENCE_S)
        except BaseException:
            self.close()
            raise
        self.versions = f"hiredis {ready['hiredis']}, libuv {ready['libuv']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The driver's process."""
        return self._running().pid

    def streaming(self, seconds: float, in_flight: int = IN_FLIGHT, pack_each: bool = False) -> float:
        """in_flight on each connection; each reply's callback sends the next command, formatted anew with pack_each.

        Returns commands per second. Raises WrongReply, DriverFailed.
        """
        stdin = self._running().stdin
        assert stdin is not None
        try:
            stdin.write(f"go {seconds:.6f} {in_flight} {int(pack_each)}\n".encode())
        except BrokenPipeError:
            self._raise_ended()
        answer = self._answer(seconds + PATIENCE_S)
        return float(answer["replies"] / answer["seconds"])

    def close(self) -> None:
        """Close its input, upon which it ends, and take its directory away. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        if self._stderr is not None:
            self._stderr.close()
        self._directory.cleanup()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DriverFailed("the C driver was closed")
        return self._process

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        """Its next line. Raises WrongReply, DriverFailed."""
        stdout = self._running().stdout
        assert stdout is not None
        until = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            if not select.select([stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                self._running().kill()
                raise DriverFailed(f"the C driver has said nothing for {timeout_s:g} s")
            got = stdout.read(4096)
            if not got:
                self._raise_ended()
            self._unread += got
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _raise_ended(self) -> NoReturn:
        """Say how it ended."""
        process = self._running()
        assert self._stderr is not None
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip() or "without a word"
        if status == STATUS_WRONG_REPLY:
            raise WrongReply(said)
        raise DriverFailed(f"the C driver has ended, status {status}: {said}")
