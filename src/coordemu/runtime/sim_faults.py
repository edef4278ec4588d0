"""NetworkFaults: what goes wrong between two ends, as calls of a plan and as choices of a search.

Role: `SimNetwork.faults` of a simulated runtime. A fault plan calls `delay`, `reset`, `half_open`, `silence`, `kill`
and `restart` with the address of a listener, from any task or timer, and means all connections to it. `chaos` hands
the same to the schedule: whenever a piece is sent, one of the allowed kinds may hit that connection (or its address), a
bounded number of times in a run; each is a pick of the strategy, so that a replay has it at the same place.

What each does. *delay*: pieces take longer, in their order. *reset*: what is on the way is lost, and both ends read
a reset once they have read what had arrived. *half-open*: the listener's end is gone; it reads a reset, the other
learns nothing, and what it sends is lost. *silence*: nothing arrives any more, on either side, nor do new connects come
to an end. *kill*: every connection is reset, and connects are refused until `restart`.

Thread: the simulator's one. Upstream: none (networks, machines). Left out: bytes lost or turned around within a living
stream, which TCP rules out; differing latencies of the two directions. Bounds: an entry per living connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from coordemu.runtime.base import NS_PER_MS, NS_PER_S, Address
from coordemu.runtime.sim_task import READ, WRITE

if TYPE_CHECKING:
    from coordemu.runtime.sim_core import SimCore
    from coordemu.runtime.sim_socket import SimPipe, SimSocket

KINDS = ("delay", "reset", "half-open", "silence", "kill")
# How much longer a piece takes by chance, and what a delay by chaos adds to every piece from then on.
CHANCE_DELAYS_NS = (NS_PER_MS, 20 * NS_PER_MS)
CHAOS_DELAY_NS = 50 * NS_PER_MS
# How long an address that chaos has killed or silenced stays so.
OUTAGE_NS = NS_PER_S
CHAOS_SHARE = 0.02

# A unix socket's path, or host and port.
Name = str | tuple[str, int]


def name_of(address: Address) -> Name:
    """What an address is known by; localhost is 127.0.0.1."""
    return address.path or ("127.0.0.1" if address.host == "localhost" else address.host, address.port)


class Link:
    """One connection: its listener's name, and the pipes there (to the listener) and back."""

    __slots__ = ("back", "name", "open_ends", "there")

    def __init__(self, name: Name, there: SimPipe, back: SimPipe) -> None:
        self.name = name
        self.there = there
        self.back = back
        self.open_ends = 2

    def reset(self) -> None:
        """Both ends read a reset, after what has arrived."""
        for pipe in (self.there, self.back):
            pipe.cut()
            pipe.reset()

    def half_open(self) -> None:
        """The listener's end is gone, and the other does not know."""
        self.there.cut()
        self.there.reset()
        self.there.lost = True
        self.back.cut()
        self.back.lost = True

    def silence(self) -> None:
        """Nothing arrives any more."""
        for pipe in (self.there, self.back):
            pipe.cut()
            pipe.lost = True


class NetworkFaults:
    """The faults of one network. `left`: how many chaos may still cause."""

    def __init__(self, core: SimCore) -> None:
        self.left = 0
        self._core = core
        self._uid = core.new_uid()
        self._kinds: tuple[str, ...] = ()
        self._share = 0.0
        self._only: frozenset[Name] | None = None
        self._links: dict[Link, None] = {}
        self._delays_ns: dict[Name, int] = {}
        self._down: set[Name] = set()
        self.silent: set[Name] = set()  # connecting there never comes to an end

    # -- by plan

    def delay(self, address: Address, extra_ns: int) -> None:
        """Every piece takes extra_ns (0 or more, ValueError otherwise; 0 ends it) longer, also of later connections."""
        if extra_ns < 0:
            raise ValueError(f"delay of {extra_ns} ns, which is negative")
        self._delay(name_of(address), extra_ns)

    def _delay(self, name: Name, extra_ns: int) -> None:
        self._touch(WRITE)
        self._delays_ns[name] = extra_ns
        for link in self._of(name):
            link.there.extra_ns = link.back.extra_ns = extra_ns

    def reset(self, address: Address) -> int:
        """Reset all connections to an address. Returns how many."""
        return self._each(name_of(address), Link.reset)

    def half_open(self, address: Address) -> int:
        """The listener's end of all connections to an address is gone; new ones work. Returns how many."""
        return self._each(name_of(address), Link.half_open)

    def silence(self, address: Address) -> int:
        """An address answers nothing any more, and no connection that stands carries anything again. Returns how many
        those are. After `restart` new ones work."""
        self._touch(WRITE)
        self.silent.add(name_of(address))
        return self._each(name_of(address), Link.silence)

    def kill(self, address: Address) -> int:
        """Reset all connections to an address, and refuse new ones until `restart`. Returns how many were reset."""
        self._touch(WRITE)
        self._down.add(name_of(address))
        return self._each(name_of(address), Link.reset)

    def restart(self, address: Address) -> None:
        """The address takes connections again. Idempotent."""
        self._restart(name_of(address))

    def _restart(self, name: Name) -> None:
        self._touch(WRITE)
        self._down.discard(name)
        self.silent.discard(name)

    def _each(self, name: Name, hit: Callable[[Link], None]) -> int:
        links = self._of(name)
        for link in links:
            hit(link)
        return len(links)

    def _of(self, name: Name) -> list[Link]:
        return [link for link in self._links if link.name == name]

    # -- by choice

    def chaos(
        self,
        kinds: Sequence[str],
        budget: int,
        share: float = CHAOS_SHARE,
        addresses: Sequence[Address] | None = None,
    ) -> None:
        """From now on the schedule may cause faults of these kinds when something is sent, `budget` of them in all.

        share: how often, about, 0.0 to 1.0.  addresses: only of connections to these listeners (None: to all).
        An address that it kills or silences comes back after a second. Raises ValueError for an unknown kind, or a
        budget or share out of bounds.
        """
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown or budget < 0 or not 0 <= share <= 1:
            said = f"unknown kinds {unknown}" if unknown else f"budget {budget}, share {share}"
            raise ValueError(f"chaos with {said}; there are {', '.join(KINDS)}")
        self._kinds = tuple(kinds)
        self.left = budget if kinds else 0
        self._share = share
        self._only = None if addresses is None else frozenset(map(name_of, addresses))

    def maybe(self, pipe: SimPipe) -> None:
        """Something was sent into a pipe: chaos may strike."""
        link = pipe.link
        if link is None or pipe.lost or (self._only is not None and link.name not in self._only):
            return
        which = self._core.pick(1 + len(self._kinds), f"fault on {pipe.name}", self._share)
        if which:
            self.left -= 1
            self._strike(self._kinds[which - 1], link)

    def _strike(self, kind: str, link: Link) -> None:
        core, name = self._core, link.name
        if kind == "delay":
            link.there.extra_ns = link.back.extra_ns = CHAOS_DELAY_NS
        elif kind == "reset":
            link.reset()
        elif kind == "half-open":
            link.half_open()
        else:
            self._touch(WRITE)
            (self._down if kind == "kill" else self.silent).add(name)
            self._each(name, Link.reset if kind == "kill" else Link.silence)
            core.arm(core.clock.now_ns + OUTAGE_NS, lambda: self._restart(name))

    # -- for the network

    def is_silent(self, name: Name) -> bool:
        """Whether connecting there never comes to an end."""
        if self._core.log is not None:
            self._touch(READ)
        return name in self.silent

    def is_down(self, name: Name) -> bool:
        """Whether connecting there is refused, listener or not."""
        return name in self._down

    def joined(self, name: Name, there: SimPipe, back: SimPipe) -> Link:
        """A connection has come about."""
        link = Link(name, there, back)
        self._links[link] = None
        there.link = back.link = link
        there.extra_ns = back.extra_ns = self._delays_ns.get(name, 0)
        return link

    def closed(self, sock: SimSocket) -> None:
        """One end was closed; with the second the connection is no more."""
        link = sock.outgoing.link if sock.outgoing is not None else None
        if link is not None:
            link.open_ends -= 1
            if not link.open_ends:
                self._links.pop(link, None)

    def _touch(self, how: int) -> None:
        if self._core.log is not None:
            self._core.log.append((self._uid, how))

    def __repr__(self) -> str:
        return f"<NetworkFaults {len(self._links)} connections, {len(self._down)} down, {len(self.silent)} silent>"
