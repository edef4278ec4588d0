"""PoolPressure: looks at the pools of a client and says how much pressure is on them.

Role: what makes a client notice that its connections run out, before its callers time out. A look reads three counters
of each pool, without a lock of the pool's; it is good for `look_ms`, so that asking with every operation costs a look
at the clock. Each node has a gauge with hysteresis (`pressure_gauge`); changes of level are kept in a history and told
to listeners, in their order and under no lock.

Two callers may look at the same time. Each look has a ticket from before it reads; one that comes to its end after a
later one is thrown away, so an old state never covers a new one.

Thread: any; no thread of its own: pressure is seen when somebody asks. Upstream: none; the write-up's "pool health".
Left out: a forecast. Bounds: a gauge per node that has a pool; the newest MOST_CHANGES changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from coordemu.pool.cluster_client import ClusterClient
from coordemu.resilience.event_box import EventBox
from coordemu.resilience.pressure_gauge import PressureGauge, PressureLevel, PressureOptions, pressure_of
from coordemu.resilience.pressure_reading import NodePressure, PressureReading
from coordemu.resilience.resilience_errors import check_faults
from coordemu.runtime.base import NS_PER_MS, Runtime

MOST_CHANGES = 1_024
STALE_LOOK = "stale-look"
TOLD_OUT_OF_ORDER = "told-out-of-order"
PRESSURE_FAULTS: Mapping[str, str] = MappingProxyType({
    STALE_LOOK: "a look that began before another and ended after it covers what the other saw: the level goes back to "
    "a state that is over.",
    TOLD_OUT_OF_ORDER: "who changed the level tells the listeners himself, after the lock: the later change may be "
    "told first, and a listener is left with the level before last.",
})  # fmt: skip


class CountedTurns(Protocol):
    """What is read of a pool's turns."""

    @property
    def size(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class CountedPool(Protocol):
    """What is read of a pool. `coordemu.pool.conn_pool.ConnPool` is one."""

    @property
    def turns(self) -> CountedTurns: ...
    @property
    def phase(self) -> str: ...


Pools = Callable[[], Mapping[str, CountedPool]]


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A node's level has changed. why: in words, without a full stop."""

    at_ns: int
    node: str
    source: PressureLevel
    target: PressureLevel
    pressure: float
    why: str


def pools_of(client: ClusterClient) -> Pools:
    """A client's pools, by the text of the node's address. Thread: any."""
    return lambda: {str(address): pool for address, pool in client.pools.items()}


class PoolPressure:
    """The pressure on some pools. pools: called with each look, outside of any lock, by the node's name.  faults: of
    PRESSURE_FAULTS. Raises what `check_faults` raises."""

    def __init__(
        self,
        rt: Runtime,
        pools: Pools,
        options: PressureOptions | None = None,
        name: str = "pressure",
        faults: Collection[str] = (),
    ) -> None:
        self.name = name
        self.options = options or PressureOptions()
        self._rt = rt
        self._pools = pools
        self._faults = check_faults(faults, PRESSURE_FAULTS, name)
        self._look_ns = self.options.look_ms * NS_PER_MS
        self._lock = rt.lock(name)
        self._box: EventBox[LevelChange] = EventBox(self._lock)
        self._gauges: dict[str, PressureGauge] = {}
        self._history: deque[LevelChange] = deque(maxlen=MOST_CHANGES)
        self._tickets = 0
        self._applied = 0
        self._looks = 0
        self._thrown_away = 0
        self._changes = 0
        self._last_ns = rt.now_ns()
        self._pressed_ns = 0
        # Replaced as a whole, under the lock, and read without it. None: nobody has looked yet.
        self._reading = rt.cell(_none(), f"{name} reading")

    # -- looks

    def look(self) -> PressureReading:
        """The newest reading, at most look_ms old; a new look when there is none. Raises what `pools` raises. Thread:
        any. Never blocks for long, but for listeners when a level has changed."""
        reading = self._reading.value
        # A reading of the future is of a clock that went back since.
        if reading is not None and 0 <= self._rt.now_ns() - reading.at_ns < self._look_ns:
            return reading
        return self.look_again()

    def look_again(self) -> PressureReading:
        """A new look, however old the last one is. Otherwise as `look`."""
        with self._lock:
            self._tickets += 1
            ticket = self._tickets
        counted = {
            node: (pool.turns.held, pool.turns.size, pool.turns.waiting, pool.phase)
            for node, pool in self._pools().items()
        }
        with self._lock:
            newest = self._reading.value
            if newest is not None and ticket < self._applied and STALE_LOOK not in self._faults:
                self._thrown_away += 1
                return newest
            self._applied = ticket
            reading, changes = self._apply_locked(counted)
            if TOLD_OUT_OF_ORDER not in self._faults:
                for change in changes:
                    self._box.write_locked(change)
        if TOLD_OUT_OF_ORDER in self._faults:
            for change in changes:
                with self._lock:
                    self._box.write_locked(change)
        if changes:
            self._box.tell()
        return reading

    def _apply_locked(
        self, counted: Mapping[str, tuple[int, int, int, str]]
    ) -> tuple[PressureReading, list[LevelChange]]:
        now_ns = self._rt.now_ns()
        self._looks += 1
        if any(gauge.level is PressureLevel.PRESSED for gauge in self._gauges.values()):
            self._pressed_ns += max(0, now_ns - self._last_ns)
        self._last_ns = now_ns
        changes = [self._forget_locked(node, now_ns) for node in self._gauges if node not in counted]
        self._gauges = {node: gauge for node, gauge in self._gauges.items() if node in counted}
        nodes = {}
        for node, (held, size, waiting, phase) in counted.items():
            gauge = self._gauges.get(node)
            if gauge is None:
                gauge = self._gauges[node] = PressureGauge(self.options, now_ns)
            source = gauge.level
            if gauge.show(now_ns, pressure_of(held, size)):
                why = f"{held} of {size} connections are held"
                changes.append(LevelChange(now_ns, node, source, gauge.level, gauge.pressure, why))
            nodes[node] = NodePressure(
                node, held, size, waiting, phase, gauge.level, gauge.in_level_ns, gauge.pressed_ns
            )  # fmt: skip
        told = [change for change in changes if change.source is not change.target]
        self._history.extend(told)
        self._changes += len(told)
        reading = PressureReading(now_ns, nodes, self._pressed_ns)
        self._reading.value = reading
        return reading, told

    def _forget_locked(self, node: str, now_ns: int) -> LevelChange:
        """A node has no pool any more; told only when it was under pressure."""
        gauge = self._gauges[node]
        return LevelChange(now_ns, node, gauge.level, PressureLevel.CALM, 0.0, "its pool is gone")

    # -- what follows

    def level(self, node: str | None = None) -> PressureLevel:
        """A node's level, or (None, or a node without a pool) that of all. As `look`."""
        return self.look().level_of(node)

    def subscribe(self, listener: Callable[[LevelChange], object]) -> Callable[[], None]:
        """Tell it of changes from now on; what this returns ends that. A listener that raises is kept in `errors`.
        Thread: any."""
        with self._lock:
            entry = self._box.add_listener_locked(listener)

        def end() -> None:
            with self._lock:
                self._box.remove_listener_locked(entry)

        return end

    @property
    def history(self) -> tuple[LevelChange, ...]:
        """The newest changes, oldest first."""
        with self._lock:
            return tuple(self._history)

    @property
    def errors(self) -> tuple[Exception, ...]:
        """What listeners raised last."""
        return tuple(self._box.errors)

    @property
    def faults(self) -> frozenset[str]:
        """Those that are on."""
        return self._faults

    def statistics(self) -> dict[str, Any]:
        """looks, thrown_away (looks that a later one had overtaken), changes (of level), pressed_ns (as of the last
        look), nodes, listener_errors, dropped (events that no listener was told of). Thread: any."""
        with self._lock:
            return {
                "looks": self._looks,
                "thrown_away": self._thrown_away,
                "changes": self._changes,
                "pressed_ns": self._pressed_ns,
                "nodes": len(self._gauges),
                "listener_errors": len(self._box.errors),
                "dropped": self._box.dropped,
            }

    def __repr__(self) -> str:
        return f"<PoolPressure {self.name!r} {len(self._gauges)} nodes, {self._changes} changes>"


def _none() -> PressureReading | None:
    return None
