"""SimNetwork: who listens where, and how connections come about, in memory.

Role: one per simulated runtime. It allots descriptors and ports (the same ones in every run of a schedule), keeps the
listeners, and plays the handshake: a connect is an actor whose one step decides between refused, accepted, and (a
listener whose queue is full, or an address that answers nothing) waiting.

Thread: the simulator's one. Upstream: the kernel's TCP and unix sockets. Left out: routes, names other than localhost;
what goes wrong is sim_faults'. Bounds: a listener's backlog; 45,000 ports that are listened on at once.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordemu.runtime.base import NS_PER_US, Address, Transport, TransportHandler
from coordemu.runtime.poller import READABLE
from coordemu.runtime.sim_core import SimCore
from coordemu.runtime.sim_faults import Name, NetworkFaults, name_of
from coordemu.runtime.sim_socket import RESET, SimPipe, SimPoller, SimSocket
from coordemu.runtime.sim_task import Actor
from coordemu.runtime.sock_transport import SockTransport
from coordemu.runtime.transport_state import State

if TYPE_CHECKING:
    from coordemu.runtime.sim_loop import SimLoop

LATENCY_NS = 10 * NS_PER_US
FIRST_PORT = 20_000
LAST_PORT = 64_999
ACCEPTS_PER_TURN = 64

Accept = Callable[[Transport], TransportHandler]


class SimNetwork:
    """Descriptors, ports, listeners. latency_ns: of every piece, 0 or more; `sockets` is for the pollers; `faults`:
    what goes wrong."""

    def __init__(self, core: SimCore, latency_ns: int = LATENCY_NS) -> None:
        self.core = core
        self.latency_ns = latency_ns
        self.sockets: dict[int, SimSocket] = {}
        self._listeners: dict[Name, SimListener] = {}
        self.faults = NetworkFaults(core)
        self._fds = 2
        self._ports = FIRST_PORT - 1

    def add(self, sock: SimSocket) -> int:
        """A descriptor for a socket."""
        self._fds += 1
        self.sockets[self._fds] = sock
        return self._fds

    def forget(self, sock: SimSocket) -> None:
        """A socket was closed."""
        self.sockets.pop(sock.fd, None)

    def _free_port(self, host: str) -> int:
        for _ in range(LAST_PORT - FIRST_PORT + 1):
            self._ports = self._ports + 1 if self._ports < LAST_PORT else FIRST_PORT
            name = (host, self._ports)
            if name not in self._listeners and name not in self.faults.silent:
                return self._ports
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def black_hole(self) -> Address:
        """An address where connecting never comes to an end."""
        address = Address(port=self._free_port("127.0.0.1"))
        self.faults.silent.add(name_of(address))
        return address

    def listen(self, loop: SimLoop, address: Address, accept: Accept, backlog: int) -> SimListener:
        """A listener. Raises OSError when the address is taken."""
        if not address.path and not address.port:
            address = Address(host=address.host, port=self._free_port(address.host))
        name = name_of(address)
        if name in self._listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        listener = self._listeners[name] = SimListener(self, loop, address, accept, backlog)
        return listener

    def unlisten(self, address: Address) -> None:
        """A listener was closed."""
        self._listeners.pop(name_of(address), None)

    def connect(self, sock: SimSocket, name: Name) -> None:
        """Send the first packet of a handshake."""
        if isinstance(name, tuple):
            host, port = name
            name = ("127.0.0.1" if host == "localhost" else host, port)
            sock.local = (name[0], self._free_port(name[0]))
        shake = _Handshake(self, sock, name)
        self.core.register(shake)
        shake.label = "arrive"
        if self.latency_ns:
            self.core.arm(self.core.clock.now_ns + self.latency_ns, lambda: self.core.enable(shake))
        else:
            self.core.enable(shake)

    def arrive(self, sock: SimSocket, name: Name) -> None:
        """The first packet has come to its address."""
        if sock.was_closed or self.faults.is_silent(name):
            return
        listener = self._listeners.get(name)
        if listener is None and isinstance(name, tuple):
            listener = self._listeners.get(("0.0.0.0", name[1]))
        if listener is None or self.faults.is_down(name):
            sock.error = errno.ENOENT if isinstance(name, str) else errno.ECONNREFUSED
            sock.changed()
        else:
            listener.offer(sock)

    def join(self, client: SimSocket, address: Address) -> SimSocket:
        """Make the two ends one connection. Returns the listener's end."""
        server = SimSocket(self, address)
        server.local, server.peer = client.peer, client.local
        here, where = client.local[1] if isinstance(client.local, tuple) else "unix", str(address)
        there = SimPipe(self.core, self.faults, f"{here} to {where}", self.latency_ns)
        back = SimPipe(self.core, self.faults, f"{where} to {here}", self.latency_ns)
        self.faults.joined(name_of(address), there, back)
        client.outgoing = server.incoming = there
        client.incoming = server.outgoing = back
        there.writer = back.reader = client
        there.reader = back.writer = server
        client.connecting = False
        client.changed()
        return server


class _Handshake(Actor):
    """A connect on its way."""

    __slots__ = ("_name", "_network", "_sock")

    def __init__(self, network: SimNetwork, sock: SimSocket, name: Name) -> None:
        where = name if isinstance(name, str) else f"{name[0]}:{name[1]}"
        super().__init__(f"connect to {where}", self._arrive)
        self._network = network
        self._sock = sock
        self._name = name

    def _arrive(self) -> None:
        self._network.core.disable(self)
        self._network.arrive(self._sock, self._name)


class SimListener(SimSocket):
    """A listening socket of one simulated loop: the kernel's queue, and the accepting of what is in it."""

    def __init__(self, network: SimNetwork, loop: SimLoop, address: Address, accept: Accept, backlog: int) -> None:
        super().__init__(network, address)
        self.address = address
        self._loop = loop
        self._accept = accept
        self._backlog = max(1, backlog)
        self._queue: deque[SimSocket] = deque()
        self._beyond: deque[SimSocket] = deque()
        loop.listeners.add(self)
        loop.poller.watch(self.fd, self, READABLE)

    def mask(self) -> int:
        """Readable while somebody waits to be accepted."""
        return READABLE if self._queue else 0

    def offer(self, client: SimSocket) -> None:
        """A client has come; one too many waits until there is room, without an answer."""
        if len(self._queue) >= self._backlog:
            self._beyond.append(client)
            return
        self._queue.append(self.network.join(client, self.address))
        self.changed()

    def on_events(self, _mask: int) -> int:
        """Accept who has come, at most 64. Returns how many."""
        count = 0
        while count < ACCEPTS_PER_TURN and self._queue and not self.was_closed:
            sock = self._queue.popleft()
            while self._beyond and len(self._queue) < self._backlog:
                client = self._beyond.popleft()
                if not client.was_closed:
                    self.offer(client)
            count += 1
            self._admit(sock)
        return count

    def _admit(self, sock: SimSocket) -> None:
        address = self.address if not isinstance(sock.peer, tuple) else Address(host=sock.peer[0], port=sock.peer[1])
        transport = SockTransport(self._loop, sock, address, State.OPEN)
        admitted = False
        try:
            transport.adopt_handler(self._accept(transport))
            admitted = True
        finally:
            if not admitted:
                transport.abort()

    def close(self) -> None:
        """Stop listening; who was not accepted is reset, accepted transports live on. Idempotent."""
        if self.was_closed:
            return
        self.was_closed = True
        self._loop.listeners.discard(self)
        self._loop.poller.watch(self.fd, self, 0)
        self.network.unlisten(self.address)
        self.network.forget(self)
        for sock in self._queue:
            if sock.outgoing is not None:
                sock.was_closed = True
                self.network.faults.closed(sock)
                sock.outgoing.send(RESET)
            self.network.forget(sock)
        for client in self._beyond:
            client.error = errno.ECONNREFUSED
            client.changed()
        self._queue.clear()
        self._beyond.clear()

    def __repr__(self) -> str:
        return f"<SimListener {self.address} {'closed' if self.was_closed else 'listening'}>"


__all__ = ["LATENCY_NS", "SimListener", "SimNetwork", "SimPoller"]
