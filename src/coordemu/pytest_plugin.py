"""The pytest plugin: fixtures for tests of shrink ordering on real threads, and the door to those in the simulator.

Role: lets a test suite of another project use the laboratory without building it. `coordemu_run` carries out a whole
scenario in a child process and returns its `Result`; `coordemu_coordinator` gives a coordinator in the test's own
process, with real threads and embedded shards, to be driven and looked at step by step. Both leave nothing running.
Tests that are played in many orders, in the simulator, are `coordemu.pytest_interleavings`, which this one loads.

    def test_the_fix_holds(coordemu_run):
        assert coordemu_run("mod-11658", "upstream-7410", lock_share=1.0).verdict == "healthy"

Thread: pytest's. Upstream: none. Left out: asserting for you.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import ResizePolicy, get_policy
from coordemu.lab.child import run_in_child
from coordemu.lab.result import Result
from coordemu.lab.scenario import get_scenario
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.shard_command import query_command
from coordemu.shards.shard_fleet import ShardFleet
from coordemu.shards.shard_url import parse_shard_url

# Tests that are played in many orders; by name, so that pytest can rewrite its assertions.
pytest_plugins = ["coordemu.pytest_interleavings"]


class Run(Protocol):
    """What `coordemu_run` is."""

    def __call__(self, scenario: str = ..., policy: str | ResizePolicy = ..., **changes: Any) -> Result:
        """Run a named scenario under a policy; changes are fields of `Scenario`. Blocks for its length."""
        ...


class MakeCoordinator(Protocol):
    """What `coordemu_coordinator` is."""

    def __call__(self, workers: int = ..., policy: str = ..., shards: str = ..., **options: Any) -> Coordinator:
        """A started coordinator; options are fields of `CoordinatorOptions`. Blocks until it is connected.

        Raises RuntimeError when that takes longer than ten seconds.
        """
        ...


@pytest.fixture
def coordemu_run() -> Run:
    """Carry out a scenario in a child process."""

    def run(scenario: str = "mod-11658", policy: str | ResizePolicy = "upstream-7410", **changes: Any) -> Result:
        value = get_policy(policy) if isinstance(policy, str) else policy
        return run_in_child(get_scenario(scenario).override(**changes), value)

    return run


@pytest.fixture
def coordemu_coordinator() -> Iterator[MakeCoordinator]:
    """Make coordinators in this process; they and their shards are stopped at the test's end."""
    with ExitStack() as stack:

        def make(
            workers: int = 4, policy: str = "upstream-7410", shards: str = "embedded:3", **options: Any
        ) -> Coordinator:
            rt = ThreadsRuntime(seed=1)
            fleet = ShardFleet.start(rt, parse_shard_url(shards), FaultPlan(), 1)
            stack.callback(fleet.stop)
            endpoints = [MREndpoint(address, fleet.password) for address in fleet.addresses]
            kind = fleet.kind
            coordinator = Coordinator(
                rt,
                CoordinatorOptions(workers=workers, **options),
                endpoints,
                get_policy(policy),
                lambda query_id, service_ns: pack_command(*query_command(kind, query_id, service_ns)),
            )
            stack.callback(coordinator.stop)
            if not coordinator.start():
                raise RuntimeError(f"not every connection to {shards} stands: {coordinator.cluster.fill_state_dict()}")
            return coordinator

        yield make
