"""Results to print, and what is printed of them at a width."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.resize_policy import get_policy
from coordemu.lab.result import ChainStep, PingSums, QuerySums, Result, TimelineRow
from coordemu.lab.scenario import Scenario


def make_receipt(outcome: str = "drained", waited_ms: float = 18.5, lost: int = 0) -> dict[str, Any]:
    waited_ns = round(waited_ms * 1e6)
    return DrainReceipt(outcome, 13, 1, 0, waited_ns, waited_ns, 0, 33, 33 - lost, 0, lost, 2, 1, 36).to_json()


@pytest.fixture
def receipt() -> Callable[..., dict[str, Any]]:
    return make_receipt


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """`make_result(policy, changes={...}, **fields)`: a healthy result, with fields changed."""

    def make(policy: str = "upstream-7410", changes: dict[str, Any] | None = None, **fields: Any) -> Result:
        values: dict[str, Any] = {
            "scenario": Scenario(name="mod-11658").to_json(),
            "policy": get_policy(policy).override(**(changes or {})).to_json(),
            "runtime": "threads",
            "seed": 1,
            "verdict": "healthy",
            "why": "all 240 queries replied, longest PING gap 9 ms",
            "as_expected": True,
            "workers": (12, 0),
            "connections": (13, 1),
            "config_set_ms": (0.62,),
            "config_set_error": "",
            "queries": QuerySums(240, 240, p50_ms=23.4, p99_ms=40.6, max_ms=41.0),
            "ping": PingSums(75, 74, 9.4, 17.2),
            "receipts": (make_receipt(),),
            "timeline": (
                TimelineRow(0.14, "CONFIG SET WORKERS 0", "accepted; 12 queries in flight"),
                TimelineRow(20.04, "stop 12 connections", "on each of 3 nodes, graceful"),
            ),
            "chain": (ChainStep(0.11, "main", "set_workers", "Resizer.set_workers", "WORKERS 12 -> 0"),),
        }
        return Result(**{**values, **fields})

    return make


@pytest.fixture
def printed() -> Callable[..., str]:
    """`printed(function, *args, width=132)`: what function(console, *args) prints, without colours."""

    def show(function: Callable[..., None], *args: Any, width: int = 132, **options: Any) -> str:
        console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
        function(console, *args, **options)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    return show
