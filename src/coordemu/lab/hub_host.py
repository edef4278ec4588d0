"""HubHost: a Hub with a loop and a task of its own, as a run starts it.

Role: `HttpHost` for the one server whose plan a run changes while it goes on.

Thread: any, one at a time; `stop` blocks. Upstream: none. Left out: a process of its own, which is not needed.
"""

from __future__ import annotations

from coordemu.lab.http_host import HttpHost
from coordemu.lab.hub import Hub
from coordemu.lab.hub_plan import CALM, HubPlan
from coordemu.runtime.base import Address, Runtime


class HubHost(HttpHost[Hub]):
    """A Hub, listening when this is made; arguments as `Hub` has them. Raises PortTaken, or another OSError."""

    def __init__(
        self,
        rt: Runtime,
        address: Address | None = None,
        plan: HubPlan = CALM,
        limit_per_s: int = 10,
        seed: int = 1,
        name: str = "hub",
    ) -> None:
        super().__init__(rt, name, lambda loop: Hub(rt, loop, address, plan, limit_per_s, seed, name))

    @property
    def hub(self) -> Hub:
        """The Hub, for its counts."""
        return self.server

    def set_plan(self, plan: HubPlan) -> None:
        """Have the plan changed, soon; its spans count from then. Thread: any. Never blocks."""
        self.post(lambda: self.server.set_plan(plan))
