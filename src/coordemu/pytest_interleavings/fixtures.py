"""The fixtures of the simulator: the runtime of an order, and what a test makes in it.

Role: what a test names. `sim_rt`, `sim_coordinator` and `sim_client` put a test into the simulator, `coordemu_rt` runs
it on both runtimes.

Thread: pytest's. Upstream: none. Left out: fixtures of a wider scope than the function's; nothing of an order outlives
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import pytest

from coordemu.coord.coordinator import Coordinator
from coordemu.coord.resize_policy import ResizePolicy
from coordemu.pytest_interleavings.client import SimClient
from coordemu.pytest_interleavings.stage import OnStage, Slot, Stage
from coordemu.runtime.base import NS_PER_S, Runtime
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.in_process_fleet import InProcessFleet

PATIENCE_NS = 10 * NS_PER_S
# A test with one of these in its fixtures is played in the simulator.
SIM_FIXTURES = ("sim_rt", "sim_coordinator", "sim_client")
BOTH = "coordemu_rt"
THREADS, SIM = "threads", "sim"
SLOT = pytest.StashKey[Slot]()


class MakeSimCoordinator(Protocol):
    """What `sim_coordinator` is."""

    def __call__(
        self,
        workers: int = ...,
        policy: str | ResizePolicy = ...,
        shards: int | InProcessFleet = ...,
        shard_faults: FaultPlan | str = ...,
        **options: Any,
    ) -> Coordinator:
        """See `Stage.coordinator`."""
        ...


class MakeSimClient(Protocol):
    """What `sim_client` is."""

    def __call__(self, coordinator: Coordinator | None = ...) -> SimClient:
        """See `Stage.client`."""
        ...


def _stand_in(request: pytest.FixtureRequest, name: str, get: Callable[[Stage], Any]) -> Any:
    return OnStage(name, request.node.stash.setdefault(SLOT, Slot()), get)


@pytest.fixture
def sim_rt(request: pytest.FixtureRequest) -> SimRuntime:
    """The simulated runtime of the order that is played; the test's body is its main task."""
    return cast(SimRuntime, _stand_in(request, "sim_rt", lambda stage: stage.rt))


@pytest.fixture
def sim_coordinator(request: pytest.FixtureRequest) -> MakeSimCoordinator:
    """Make coordinators in the simulation, with embedded shards; they are stopped at the end of each order."""
    return cast(MakeSimCoordinator, _stand_in(request, "sim_coordinator", lambda stage: stage.coordinator))


@pytest.fixture
def sim_client(request: pytest.FixtureRequest) -> MakeSimClient:
    """Connect clients to a simulated coordinator: `client.call("CONFIG", "SET", "WORKERS", "0")`."""
    return cast(MakeSimClient, _stand_in(request, "sim_client", lambda stage: stage.client))


@pytest.fixture(params=[THREADS, SIM])
def coordemu_rt(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """A runtime: the test runs on real threads, and in the simulator. No task may be left when it ends."""
    if request.param == SIM:
        yield cast(Runtime, _stand_in(request, "coordemu_rt", lambda stage: stage.rt))
        return
    if request.param != THREADS:
        pytest.fail(f"coordemu_rt is {THREADS!r} or {SIM!r}, not {request.param!r}", pytrace=False)
    rt = ThreadsRuntime(seed=1)
    yield rt
    left = [task.name for task in rt.tasks() if not task.adopted and not task.join(PATIENCE_NS)]
    assert not left, f"tasks left alive: {', '.join(left)}"
