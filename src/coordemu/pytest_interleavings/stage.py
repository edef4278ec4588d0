"""Stage: what one order is played on, and the stand-ins that a test's fixtures hold before there is one.

Role: a fixture is set up once, and a runtime serves one order. So the fixtures give out `OnStage`, a stand-in, and the
test itself gets the real things of each order: a runtime, and the functions that make coordinators and clients in it.
Functions in other fixtures may use the stand-in while an order is played; before, it refuses in one line.

What a stage makes is taken down at the end of the order, in the simulation, so that a hang on the way down is found; an
order that fails is left as it is.

Thread: the test's main task. Upstream: none. Left out: shards that are processes, and faults of the network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from coordemu.coord.conn_handshake import pack_command
from coordemu.coord.coordinator import Coordinator, CoordinatorOptions
from coordemu.coord.endpoint import MREndpoint
from coordemu.coord.resize_policy import ResizePolicy, get_policy
from coordemu.pytest_interleavings.client import SimClient, SimClients
from coordemu.runtime.sim import SimRuntime
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.in_process_fleet import InProcessFleet


class Stage:
    """One order's runtime, and what the test makes in it."""

    def __init__(self, rt: SimRuntime) -> None:
        self.rt = rt
        self._stack = ExitStack()
        self._clients: SimClients | None = None
        self._coordinators: list[Coordinator] = []

    def coordinator(
        self,
        workers: int = 4,
        policy: str | ResizePolicy = "upstream-7410",
        shards: int | InProcessFleet = 1,
        shard_faults: FaultPlan | str = "",
        **options: Any,
    ) -> Coordinator:
        """A started coordinator with embedded shards, all in the simulation; the way there is no part of the search.

        shards: how many, 1 or more; or a fleet of the test's own, so that it can kill one.  shard_faults: a `FaultPlan`
        or its text, for those made here.  options: fields of `CoordinatorOptions`. Raises ShardError or ValueError
        outside of the bounds, RuntimeError when it does not come up. Blocks until it is connected.
        """
        plan = FaultPlan.parse(shard_faults) if isinstance(shard_faults, str) else shard_faults
        value = get_policy(policy) if isinstance(policy, str) else policy
        with self._calm():
            fleet = InProcessFleet(self.rt, shards, plan) if isinstance(shards, int) else shards
            coordinator = Coordinator(
                self.rt,
                CoordinatorOptions(workers=workers, **options),
                [MREndpoint(shard.address, shard.password) for shard in fleet.endpoints],
                value,
                lambda query_id, service_ns: pack_command(*fleet.query_command(query_id, service_ns)),
            )

            def stop() -> None:
                coordinator.stop()
                fleet.stop()
                errors = coordinator.workers.pool.job_errors
                assert not errors, f"jobs raised: {'; '.join(errors)}"

            self._stack.callback(stop)
            self._coordinators.append(coordinator)
            if not coordinator.start():
                raise RuntimeError(f"not every connection stands: {coordinator.cluster.fill_state_dict()}")
        return coordinator

    def client(self, coordinator: Coordinator | None = None) -> SimClient:
        """A client that is connected. coordinator: whose; None: the last one that was made (one is, if there is none).

        Blocks until the connection stands, which is no part of the search unless a command is on its way.
        """
        target = coordinator or (self._coordinators[-1] if self._coordinators else self.coordinator())
        if self._clients is None:
            with self._calm():
                self._clients = SimClients(self.rt)
            self._stack.callback(self._clients.stop)
        with nullcontext() if self._clients.awaited else self._calm():
            return SimClient(self._clients, target.host)

    def close(self) -> None:
        """Take down what was made, the last first. Blocks."""
        self._stack.close()

    @contextmanager
    def _calm(self) -> Iterator[None]:
        before, self.rt.calm = self.rt.calm, True
        try:
            yield
        finally:
            self.rt.calm = before


@dataclass(slots=True)
class Slot:
    """Where a test's fixtures find the stage of the order that is played; None between orders."""

    stage: Stage | None = None


class OnStage:
    """Stands for something of the stage that is played at the moment. name: the fixture's.  get: what it stands for."""

    def __init__(self, name: str, slot: Slot, get: Callable[[Stage], Any]) -> None:
        self._name = name
        self._slot = slot
        self._get = get

    def on(self, stage: Stage) -> Any:
        """What it stands for on a stage."""
        return self._get(stage)

    def _now(self) -> Any:
        if self._slot.stage is None:
            pytest.fail(
                f"{self._name} is new in every order, and a fixture is set up once, before the first: "
                "use it in the test, or in a function that the test calls",
                pytrace=False,
            )
        return self._get(self._slot.stage)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest and inspect ask for such of any value
            raise AttributeError(name)
        return getattr(self._now(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._now()(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self._name} of the order that is played>"
