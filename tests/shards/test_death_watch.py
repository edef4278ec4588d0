"""The watch: kills and cleans up when its pipe closes, and does neither when it was called off."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordemu.shards.death_watch import DeathWatch


@pytest.fixture
def victim(nothing_left: None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def test_the_end_of_its_input_kills_and_removes(victim: Any, tmp_path: Path, eventually: Any) -> None:
    directory = tmp_path / "with 'quotes' and spaces"
    directory.mkdir()
    (directory / "file").touch()
    watch = DeathWatch(victim.pid, str(directory))
    assert watch.statistics()["watched"] == victim.pid
    watch._shell.stdin.close()  # as the kernel does when we die
    assert victim.wait(10) == -9
    eventually(lambda: not directory.exists())
    watch.stop()
    watch.stop()


def test_called_off_it_does_nothing(victim: Any, tmp_path: Path) -> None:
    watch = DeathWatch(victim.pid, str(tmp_path))
    watch.stop()
    assert watch._shell.returncode == -9
    assert victim.poll() is None
    assert tmp_path.exists()
