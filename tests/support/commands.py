"""The command line in a test: run in this process, with what it wrote; or started as a process that Ctrl-C may end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil
import pytest

from coordemu import cli as cli_module

COMMAND = [sys.executable, "-m", "coordemu.cli"]
PATIENCE_S = 30


class Said(NamedTuple):
    """What a command wrote."""

    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its standard output, which must be JSON alone."""
        values: dict[str, Any] = json.loads(self.out)
        return values

    def refuses(self, words: str) -> None:
        """It is one line on stderr, with `words` in it, and nothing else."""
        assert self.out == ""
        assert words in self.err
        assert self.err.startswith("Error: ")
        assert self.err.count("\n") == 1


Cli = Callable[..., Said]


def cli_fixture(*group: str) -> Any:
    """The fixture `cli` of a suite. group: the words before a test's own."""

    @pytest.fixture(name="cli")
    def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
        """`cli(*args, code=0)`: run the command here, check its exit code and that its output is plain text."""

        def run(*args: str, code: int = 0) -> Said:
            with pytest.raises(SystemExit) as exit_:
                cli_module.main([*group, *args], prog_name="coordemu")
            said = Said(*capsys.readouterr())
            assert exit_.value.code == code, (args, said)
            assert "\x1b" not in said.out + said.err
            return said

        return run

    return cli


class Started:
    """A command as a process of its own, in its own session, that hears Ctrl-C."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )  # fmt: skip

    def line_with(self, begin: str) -> str:
        """The next line on stderr that begins so."""
        assert self.process.stderr is not None
        return next(line for line in self.process.stderr if line.startswith(begin))

    def interrupt(self, eventually: Callable[..., Any]) -> Said:
        """Ctrl-C, while it has children. What it has written since; none of its children is left."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        assert children
        os.kill(self.process.pid, signal.SIGINT)
        said = Said(*self.process.communicate(timeout=PATIENCE_S))
        assert self.process.returncode == 130, said.err
        assert said.err.endswith("Aborted!\n")
        eventually(lambda: not any(child.is_running() for child in children), "its children end")
        return said
