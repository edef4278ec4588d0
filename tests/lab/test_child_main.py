"""The child's own part, in this process: what it answers when the run does not end well."""

from __future__ import annotations

from typing import Any, cast

import pytest

from coordemu.coord.resize_policy import get_policy
from coordemu.lab import child_main
from coordemu.lab.run import ShardsUnreachable
from coordemu.lab.scenario import Scenario
from coordemu.shards.shard_errors import ShardError

REQUEST = {"scenario": Scenario().to_json(), "policy": get_policy("upstream-7410").to_json()}


class StubFleet:
    """Shards that only notice being stopped."""

    def __init__(self) -> None:
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> StubFleet:
    one = StubFleet()
    monkeypatch.setattr("coordemu.lab.child_main.ShardFleet.start", lambda *args: one)
    monkeypatch.setattr(child_main, "raise_fd_limit", lambda: None)
    return one


class StubWatch:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def allow(self) -> None:
        self.told.append("allow")

    def hold_back(self) -> None:
        self.told.append("hold back")


def answer(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> dict[str, Any]:
    def carry_out(run: object) -> None:
        raise error

    monkeypatch.setattr("coordemu.lab.child_main.LabRun.carry_out", carry_out)
    watch = StubWatch()
    try:
        said, clean = child_main._carry_out(REQUEST, cast(child_main.ParentWatch, watch))
    finally:
        assert watch.told == ["allow", "hold back"]
    assert not clean
    return said


@pytest.mark.parametrize(
    "error", [ShardError("shard 1: gone"), ShardsUnreachable("no connection"), OSError(24, "Too many open files")]
)
def test_what_the_environment_did(
    fleet: StubFleet, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert answer(monkeypatch, error) == {"error": str(error)}
    assert fleet.stopped == 1
    assert capfd.readouterr() == ("", "")


def test_a_bug_is_told_with_its_place(
    fleet: StubFleet, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = answer(monkeypatch, KeyError("size"))["error"]
    assert said.startswith("the run broke off with KeyError at test_child_main.py:")
    assert said.endswith(": 'size'")
    assert fleet.stopped == 1
    assert "Traceback" in capfd.readouterr().err


def test_an_interrupt_takes_the_shards_down(fleet: StubFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        answer(monkeypatch, KeyboardInterrupt())
    assert fleet.stopped == 1
