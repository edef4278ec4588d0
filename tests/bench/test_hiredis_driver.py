"""The C driver of the benchmark, and asyncio clients: where one can't be had, its rows are left out and that is said.

Headers and libraries are no requirement, so whatever needs the driver holds with and without them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import async_clients, commands, fanout, hiredis_driver  # noqa: E402
from bench.clients import NotHere, OurClient, WrongReply  # noqa: E402
from bench.hiredis_driver import DriverFailed, HiredisDriver  # noqa: E402
from bench.measure import SMOKE, Report  # noqa: E402
from coordemu.coord.io_runtime_ctx import IORuntimeCtx  # noqa: E402
from coordemu.runtime.base import Address  # noqa: E402
from coordemu.runtime.threads import ThreadsRuntime  # noqa: E402

CONNS = 3
SECONDS = 0.02


@pytest.fixture
def server() -> Iterator[Address]:
    """An embedded shard with the key set."""
    with ExitStack() as stack:
        yield commands.start_server(ThreadsRuntime(seed=1), stack, "embedded:1")[0]


PROGRAM = """
#include <hiredis/async.h>
#include <uv.h>
#include <hiredis/adapters/libuv.h>
int main(void) { return redisLibuvAttach == 0; }
"""


def missing() -> str:
    """What a compiler by itself says of headers and libraries in the usual places: nothing where they are."""
    command = ["cc", "-x", "c", "-", "-o", os.devnull, "-lhiredis", "-luv"]
    done = subprocess.run(command, input=PROGRAM, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def driver_at(address: Address, **more: Any) -> HiredisDriver | None:
    """The driver; None where it can't be built, which is right only where a compiler cannot do it either."""
    try:
        return HiredisDriver(address, CONNS, **more)
    except NotHere as err:
        said = str(err)
    assert missing(), said
    assert len(said.splitlines()) == 1
    return None


def counts(measure: Callable[[], float]) -> bool:
    """Whether it counts replies: in one of some rounds, since in another the server may not have had a turn."""
    return any(measure() > 0 for _ in range(100))


def children() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}


def rows(report: Report) -> set[str]:
    return {row.name for case in report.cases for row in case.rows}


def fake_compiler(directory: Path, body: str) -> str:
    """A compiler that makes a program of these lines of shell, whatever it is given."""
    (directory / "program").write_text(f"#!/bin/sh\n[ $# -gt 0 ] || exit 2\n{body}\n")
    (directory / "program").chmod(0o755)
    script = directory / "cc"
    script.write_text(
        f'#!/bin/sh\nwhile [ $# -gt 0 ]; do if [ "$1" = -o ]; then cp "{directory}/program" "$2"; fi; shift; done\n'
    )
    script.chmod(0o755)
    return str(script)


# --- where it can be built


def test_the_driver_counts_right_replies_and_compiles_without_a_warning(server: Address) -> None:
    before = children()
    driver = driver_at(server)
    if driver is None:
        return
    with driver:
        assert driver.warnings == ""
        assert driver.versions.startswith("hiredis ")
        for in_flight in (1, 64):
            for pack_each in (False, True):
                assert counts(partial(driver.streaming, SECONDS, in_flight, pack_each))
        assert driver.pid in children() - before
    assert not children() - before


def test_a_wrong_reply_ends_it(server: Address) -> None:
    driver = driver_at(server, value="abd")
    if driver is None:
        return
    with driver, pytest.raises(WrongReply, match=r'^hiredis_driver: wrong reply: type 1, "abc"$'):
        driver.streaming(SECONDS)


def test_it_ends_when_its_input_does_in_the_middle_of_a_round_too(server: Address) -> None:
    driver = driver_at(server)
    if driver is None:
        return
    process = driver._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.write(b"go 600 4 0\n")
    process.stdin.close()
    assert process.wait(10) == 0
    driver.close()


@pytest.mark.parametrize(
    "line", ["go", "go 1 1", "go 1 1 2", "go 0 1 0", "go 1 0 0", "go 1 1 0 0", "stop", "go 1 1 0" * 40]
)
def test_it_refuses_what_it_does_not_understand(server: Address, line: str) -> None:
    driver = driver_at(server)
    if driver is None:
        return
    process = driver._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    with driver, pytest.raises(DriverFailed, match=r"^the C driver has ended, status 2: hiredis_driver: "):
        driver._answer(10)


def test_a_killed_driver_is_one_clear_error(server: Address) -> None:
    before = children()
    driver = driver_at(server)
    if driver is None:
        return
    with driver:
        os.kill(driver.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(DriverFailed, match=r"^the C driver has ended, status -9: without a word$"):
                driver.streaming(SECONDS)
    assert not children() - before


def test_a_server_that_goes_is_one_clear_error() -> None:
    with ExitStack() as stack:
        address, _ = commands.start_server(ThreadsRuntime(seed=1), stack, "embedded:1")
        driver = driver_at(address)
    if driver is None:
        return
    with driver, pytest.raises(DriverFailed, match=r"a connection was lost|\d+ replies are missing"):
        driver.streaming(SECONDS)


# --- where it can't be, or does not do what it should: with programs that stand in for it, so on every machine


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("/nonexistent/cc -O1", r"^/nonexistent/cc: No such file or directory$"),
        ("false", r"^false ends with status 1$"),
        ("sh -c 'echo 1; echo x.c:1:2: fatal error: hiredis.h: No such file >&2; exit 1'", "fatal error: hiredis.h"),
        ("true", r"^/\S+/hiredis_driver: No such file or directory$"),
    ],
)
def test_why_it_can_not_be_built_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, said: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(NotHere, match=said) as caught:
        hiredis_driver.build(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_program_that_does_not_run_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", fake_compiler(tmp_path, ""))
    (tmp_path / "program").write_text(
        "#!/bin/sh\necho 'error while loading shared libraries: libuv.so.1' >&2; exit 127\n"
    )
    with pytest.raises(NotHere, match=r"^error while loading shared libraries: libuv.so.1$"):
        hiredis_driver.build(tmp_path)


def test_without_pkg_config_the_usual_libraries_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (hiredis_driver._flags("--cflags"), hiredis_driver._flags("--libs")) == ([], ["-lhiredis", "-luv"])


READY = 'echo \'{"ready": 13, "hiredis": "9.9.9", "libuv": "8.8.8"}\''


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo no server >&2; exit 3", r"^the C driver has ended, status 3: no server$"),
        (f"{READY}; read line; kill -9 $$", r"^the C driver has ended, status -9: without a word$"),
        (f"{READY}; read line; echo 'gone' >&2; exit 3", r"^the C driver has ended, status 3: gone$"),
        (f"{READY}; read line; exec 1>&-; exec sleep 60", r"^the C driver has ended, status -9: without a word$"),
        (f"{READY}; exec sleep 60", r"^the C driver has said nothing for 0\.22 s$"),
    ],
)
def test_a_broken_driver_is_one_clear_error_and_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    before = children()
    monkeypatch.setenv("CC", fake_compiler(tmp_path, body))
    if READY in body:
        driver = HiredisDriver(Address("127.0.0.1", 1))
        assert driver.versions == "hiredis 9.9.9, libuv 8.8.8"
        monkeypatch.setattr(hiredis_driver, "PATIENCE_S", 0.2)
        with driver, pytest.raises(DriverFailed, match=said):
            driver.streaming(SECONDS)
        with pytest.raises(DriverFailed, match="was closed"):
            driver.streaming(SECONDS)
    else:
        with pytest.raises(DriverFailed, match=said):
            HiredisDriver(Address("127.0.0.1", 1))
    assert not children() - before


def test_an_answer_in_pieces_is_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds, and the lines of a driver whose writes are cut."""
    answer = "read line; printf '{\"replies\": 10, '; printf '\"seconds\": 0.5}\\n'"
    monkeypatch.setenv("CC", fake_compiler(tmp_path, f"{READY}; {answer}; {answer}; read line"))
    with HiredisDriver(Address("127.0.0.1", 1)) as driver:
        assert [driver.streaming(SECONDS) for _ in range(2)] == [20.0, 20.0]


# --- the tables


FROM_C = {commands.C_STREAM, commands.C_PACKING}


def test_the_rows_from_c_are_there_or_it_is_said_why(server: Address) -> None:
    before = children()
    with ExitStack() as stack:
        bench = commands.Bench(server, stack, SMOKE)
        for case in (bench.streaming(), bench.deep_streaming()):
            names = {contender.name for contender in case.contenders}
            if bench.facts[commands.C_CLIENT].startswith("hiredis "):
                assert names & FROM_C == {*case.baselines} & FROM_C == FROM_C
            else:
                assert missing()
                assert bench.facts[commands.C_CLIENT].startswith("not here: ")
                assert not names & FROM_C
    assert not children() - before


def test_without_the_driver_everything_else_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setenv("CC", "/nonexistent/cc")
    report = commands.run(SMOKE, shards="embedded:1")
    assert report.facts[commands.C_CLIENT] == "not here: /nonexistent/cc: No such file or directory"
    assert not rows(report) & FROM_C
    assert not any({*case.baselines} & FROM_C for case in report.cases)
    assert commands.C_CLIENT not in report.conclusion
    assert commands.OUR_STREAM in rows(report)
    assert not children() - before


class Glide:
    """Stands in for the package valkey-glide, whose client works, or does not."""

    class GlideError(Exception):
        """Its errors."""

    NodeAddress = GlideClientConfiguration = staticmethod(lambda *arguments: arguments)

    def __init__(self, reply: bytes, refuses: bool = False) -> None:
        self.reply, self.refuses = reply, refuses
        self.opened = self.closed = 0
        self.GlideClient = self

    async def create(self, _configuration: Any) -> Glide:
        if self.refuses and self.opened:
            raise self.GlideError("unknown command\nmore of it")
        self.opened += 1
        return self

    async def get(self, _key: str) -> bytes:
        return self.reply

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def glide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Glide]:
    def use(*arguments: Any) -> Glide:
        stand_in = Glide(*arguments)
        monkeypatch.setattr(async_clients, "glide", stand_in)
        monkeypatch.setattr(async_clients.importlib.metadata, "version", lambda _name: "7.7.7")
        return stand_in

    return use


def test_valkey_glide_has_rows_where_it_is(glide: Callable[..., Glide]) -> None:
    stand_in = glide(b"abc")
    report = fanout.run(SMOKE, shards="embedded:1")
    assert fanout.GLIDE_TASKS in rows(report)
    assert all(fanout.GLIDE_TASKS in case.baselines for case in report.cases)
    assert report.facts[commands.GLIDE] == "7.7.7"
    assert (stand_in.opened, stand_in.closed) == (13, 13)


def test_a_wrong_reply_of_valkey_glide_is_told(server: Address, glide: Callable[..., Glide]) -> None:
    stand_in = glide(b"abd")
    client = async_clients.ValkeyGlide(server, 2)
    for measure in (client.blocking, client.gathering):
        with pytest.raises(WrongReply, match=r"^valkey-glide: b'abd'$"):
            measure(60)
    client.close()
    assert (stand_in.opened, stand_in.closed) == (2, 2)


def test_a_server_that_valkey_glide_can_not_work_with_is_said(glide: Callable[..., Glide]) -> None:
    stand_in = glide(b"abc", True)
    report = fanout.run(SMOKE, shards="embedded:1")
    assert report.facts[commands.GLIDE] == "not here: it cannot connect: unknown command"
    assert fanout.GLIDE_TASKS not in rows(report)
    assert (stand_in.opened, stand_in.closed) == (1, 1)


def test_without_valkey_glide_the_rows_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_clients, "glide", None)
    report = fanout.run(SMOKE, shards="embedded:1")
    assert report.facts[commands.GLIDE] == "not here: not installed (pip install -e '.[bench]')"
    assert fanout.GLIDE_TASKS not in rows(report)
    assert fanout.AIO in rows(report)


# --- the other clients


def test_asyncio_counts_right_replies_and_tells_wrong_ones(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    client = async_clients.RedisAsyncio(server)
    try:
        assert counts(partial(client.blocking, SECONDS))
        assert counts(partial(client.gathering, SECONDS))
        monkeypatch.setattr(async_clients, "REPLY", b"abd")
        began = time.monotonic()
        for measure in (client.blocking, client.gathering):
            with pytest.raises(WrongReply, match=r"^redis\.asyncio: b'abc'$"):
                measure(600)
        assert time.monotonic() - began < 60  # it did not go on to the end
    finally:
        client.close()


def test_deadlines_are_kept_and_told(server: Address) -> None:
    client = OurClient(server, 1, CONNS)
    try:
        assert counts(partial(client.streaming, SECONDS, timeout_ns=commands.DEADLINE_NS))
        with pytest.raises(ValueError, match="packed once"):
            client.streaming(SECONDS, pack_each=True, timeout_ns=1)
        with pytest.raises(WrongReply, match=r"^0 replies missing, 0 wrong, [1-9]\d* late, "):
            client.streaming(SECONDS, timeout_ns=1)
    finally:
        client.close()


def test_the_clock_waits_for_an_io_thread_that_starts_late(server: Address) -> None:
    """Otherwise a round would count nothing, and the next one its replies."""
    client = OurClient(server, 1, CONNS)
    came: list[bool] = []

    def late(io: IORuntimeCtx, _data: Any) -> None:
        time.sleep(0.3)
        came.append(True)
        io.request_completed()

    try:
        client._cluster.schedule(late, None)
        client.streaming(SECONDS)
        assert came
        assert counts(partial(client.streaming, SECONDS))
    finally:
        client.close()
