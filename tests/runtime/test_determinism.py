"""The same seed is the same run: in one process, and in fresh ones with other hash seeds and other addresses."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import coordemu
from coordemu.runtime.sim import SimRuntime

SCRIPT = Path(__file__).parents[1] / "determinism_digest.py"


def digests(python: str, hash_seed: int, *arguments: str) -> Any:
    """What the script prints in a process of its own."""
    path = os.pathsep.join(filter(None, (str(Path(coordemu.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path}
    done = subprocess.run([python, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("determinism_digest", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fresh_processes_with_other_hashes_and_addresses(script: ModuleType) -> None:
    """And this process, which has run other tests before, agrees with them."""
    first, *others = [digests(sys.executable, number, str(number)) for number in range(3)]
    assert len(first) == len(script.CASES)
    assert others == [first, first]
    assert {" ".join(map(str, case)): list(script.digest(*case)) for case in script.CASES} == first
    # Runs that did next to nothing, or all the same, would agree, too.
    assert len({tuple(found) for found in first.values()}) == len(first)
    assert all(steps > 300 for _, steps, _ in first.values())
    assert {kind for kind, _, _ in first.values()} == {"done", "deadlock"}


def test_twice_in_one_process(script: ModuleType) -> None:
    for case in script.CASES[::5]:
        assert script.digest(*case) == script.digest(*case)


def test_a_layer_that_walks_a_set_is_found() -> None:
    found = [digests(sys.executable, number, "0", "planted") for number in range(3)]
    assert found[0] != found[1] or found[0] != found[2]


def test_also_after_a_run_with_hundreds_of_tasks(script: ModuleType) -> None:
    """Its stacks are lent to later runs."""
    case = next(case for case in script.CASES if case[0] == "upstream-before")
    before = script.digest(*case)
    for count in (40, 300):
        rt = SimRuntime()
        rt.run(lambda rt=rt, count=count: crowd(rt, count)).check()
        assert script.digest(*case) == before


def crowd(rt: SimRuntime, count: int) -> None:
    tasks = [rt.spawn(rt.sleep_ns, 1_000, name=f"task {number}") for number in range(count)]
    for task in tasks:
        task.join()
