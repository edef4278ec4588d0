"""SimClient: a client of a simulated coordinator, for the body of a test.

Role: what redis-cli is to a person. A client is one connection to the host; `send` returns at once and gives a
`SimReply` to wait for, `call` does both. All clients of an order share a loop and the task "clients", so the test's
task itself waits at events only: in the wait-for graph it waits for its reply, which main owes.

Thread: the test's main task makes and uses clients; the callbacks run on "clients". Upstream: none. Left out: time
limits. A reply that never comes leaves nothing that can run, which is found as a deadlock; a limit of virtual time
would fire, on the explored clock, although the reply is on its way. Bounds: one entry per reply that is awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from coordemu.coord.host import Host
from coordemu.lab.resp_stream import RespStream
from coordemu.runtime.base import Event, Runtime


class SimClients:
    """The clients' loop and its task."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.loop = rt.loop("clients")
        # Commands on their way, of all clients.
        self.awaited = 0
        self._work: deque[Callable[[], None]] = deque()
        self._wake = self.loop.async_handle(self._run_work, "clients: work")
        self._task = rt.spawn(self.loop.run, name="clients")

    def do(self, work: Callable[[], None]) -> None:
        """Have the loop run it. Thread: any. Never blocks."""
        self._work.append(work)
        self._wake.send()

    def _run_work(self) -> None:
        while self._work:
            self._work.popleft()()

    def stop(self) -> None:
        """End the task and drop the connections. Blocks until it has ended."""
        self.loop.stop()
        self._task.join()
        self.loop.close()


class SimReply:
    """The answer to one command, now or later."""

    def __init__(self, words: str, event: Event) -> None:
        self.words = words
        self._event = event
        self._value: object = None

    @property
    def here(self) -> bool:
        """Whether it has come. A schedule point."""
        return self._event.is_set()

    def arrive(self, value: object) -> None:
        """Called with it. Thread: clients."""
        self._value = value
        self._event.set()

    def wait(self) -> object:
        """Its value. Raises hiredis.ReplyError for an error reply, ConnectionError when the connection ends first.

        Blocks until it has come.
        """
        self._event.wait()
        if isinstance(self._value, Exception):
            raise self._value
        return self._value

    def __repr__(self) -> str:
        return f"<SimReply to {self.words}: {self._value!r}>"


class SimClient:
    """One connection. Made by the fixture `sim_client`; it is connected then."""

    def __init__(self, clients: SimClients, host: Host) -> None:
        """Connect. Raises ConnectionError when that is refused. Blocks until it stands."""
        self._clients = clients
        self._host = host
        # One per command on its way; the host answers one client's in order.
        self._awaited: deque[SimReply] = deque()
        self._stream: RespStream | None = None
        connected = self._reply("the connection")
        clients.do(self._connect)
        connected.wait()

    def _connect(self) -> None:
        self._stream = RespStream(
            self._clients.loop, self._host.address, self._replied, self._ended, lambda: self._replied(None)
        )

    def send(self, *words: str | bytes | int) -> SimReply:
        """Send a command. Does not wait for its reply. A blocked client (FT.SEARCH under way) blocks what follows it,
        as in Redis: use another."""
        reply = self._reply(" ".join(word.decode() if isinstance(word, bytes) else str(word) for word in words))
        self._clients.do(lambda: self._write(words))
        return reply

    def call(self, *words: str | bytes | int) -> object:
        """Send a command and wait for its reply; raises as `SimReply.wait`. Blocks."""
        return self.send(*words).wait()

    def _reply(self, words: str) -> SimReply:
        task = self._host.task
        event = self._clients.rt.event(f"reply to {words}", owed_by=lambda: [task] if task is not None else [])
        reply = SimReply(words, event)
        self._awaited.append(reply)
        self._clients.awaited += 1
        return reply

    def _write(self, words: tuple[str | bytes | int, ...]) -> None:
        if self._stream is None:
            self._ended("the connection has ended")
        else:
            self._stream.send(words)

    def _replied(self, value: object) -> None:
        assert self._awaited, f"a reply that nobody asked for: {value!r}"
        self._arrive(value)

    def _ended(self, reason: str) -> None:
        self._stream = None
        while self._awaited:
            self._arrive(ConnectionError(reason))

    def _arrive(self, value: object) -> None:
        self._clients.awaited -= 1
        self._awaited.popleft().arrive(value)
