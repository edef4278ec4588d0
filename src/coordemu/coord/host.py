"""Host: the server around the coordinator; its main thread, the module lock, yields, blocked clients.

Role: the top of the call chain. One task, "main", turns an event loop: it reads commands from clients (and from
the PING prober, which is a client like any other), runs each with the module lock held, and writes the replies.
It lets go of the lock only while it polls for events, inside a yield, and where a policy says so
(`Host.module_lock_released`). Whoever else needs the lock, a worker that opens the index or loads documents, waits for
that. Hence the incident: as long as main waits for something inside a command, the lock is taken and no PING is
answered.

A command handler returns its reply, or `BLOCKED`; then the client stays blocked, its later commands wait in its
input, and `HostClient.unblock`, callable from any thread, has main write the reply. Other threads give main work
through `Host.post`.

Thread: main runs everything here, but for `post` and `HostClient.unblock` (any thread).
Upstream: Redis' ae.c, networking.c and blocked.c (beforeSleep and afterSleep release and take the module lock;
RM_BlockClient, RM_UnblockClient, RM_Yield). Left out: databases, ACLs, the "-BUSY" that Redis answers inside
a yield (here every command is served in one), output buffer limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import hiredis

from coordemu import resp_encode
from coordemu.runtime.base import Address, Listener, Loop, Runtime, Task, Transport


class _Blocked:
    def __repr__(self) -> str:
        return "BLOCKED"


BLOCKED: Final = _Blocked()
_NO_MORE: Final = object()  # hiredis' own word for that, False, is also how it reads RESP3's "#f"
Reply = bytes | _Blocked
CommandHandler = Callable[["HostClient", Sequence[bytes]], Reply]


class HostClient:
    """One client's connection, seen from the server: its input, whether it is blocked, its replies."""

    def __init__(self, host: Host, transport: Transport, number: int) -> None:
        """Made by `Host` for each accepted connection. Thread: main."""
        self._host = host
        self._transport = transport
        self._reader = hiredis.Reader(notEnoughData=_NO_MORE)
        self._held = False
        self._in_handler = False
        self.number = number
        self.closed = False

    @property
    def blocked(self) -> bool:
        """True from the moment a command starts until its reply is written. Thread: main."""
        return self._held

    def on_connect(self) -> None:
        """Never called: accepted transports are connected already."""

    def on_data(self, data: bytes) -> None:
        """Feed the parser and run what is complete. Thread: main. May block: as long as a command does."""
        self._reader.feed(data)
        self._run_commands()

    def on_close(self, reason: str | None) -> None:
        """The client has gone; what it asked for is finished and its reply thrown away. Thread: main."""
        self._gone()

    def _gone(self) -> None:
        self.closed = True
        self._host.forget_client(self)

    def _run_commands(self) -> None:
        while not self._held and not self.closed:
            try:
                command = self._reader.gets()
            except hiredis.ProtocolError as err:
                self._reply(resp_encode.error(f"ERR Protocol error: {err}"))
                self._transport.close()
                self._gone()
                return
            if command is _NO_MORE:
                return
            # Held while it runs: inside a yield the loop may deliver more input of this very client.
            self._held = self._in_handler = True
            reply = self._host.run_command(self, command)
            self._in_handler = False
            if isinstance(reply, bytes):
                self._reply(reply)

    def _reply(self, reply: bytes) -> None:
        self._held = False
        if not self.closed and self._transport.connected:
            self._transport.write(reply)

    def unblock(self, reply: bytes) -> None:
        """Have main write the reply of a blocked command and go on with this client's input.

        Thread: any. Never blocks. Upstream: RedisModule_UnblockClient.
        """
        self._host.post(lambda: self._unblocked(reply))

    def reply_now(self, reply: bytes) -> None:
        """The same, when main itself has the reply of a blocked command. Thread: main."""
        self._unblocked(reply)

    def _unblocked(self, reply: bytes) -> None:
        self._reply(reply)
        # A command that was answered before its handler returned: the loop in _run_commands goes on by itself.
        if not self._in_handler:
            self._run_commands()

    def close(self) -> None:
        """Drop the connection. Thread: main."""
        self._transport.abort()
        self.closed = True

    def __repr__(self) -> str:
        state = "closed" if self.closed else "blocked" if self._held else "open"
        return f"<HostClient {self.number} {state}>"


class Host:
    """The server: main thread, module lock, command table, clients."""

    def __init__(self, rt: Runtime, log: Callable[[str, str], None], address: Address | None = None) -> None:
        """log: called with a level and a line.  address: where clients connect; None: a free port on loopback."""
        self._rt = rt
        self._log = log
        self.module_lock = rt.lock("module lock")
        self.loop: Loop = rt.loop("main")
        self._address = address or Address()
        self._listener: Listener | None = None
        self._task: Task | None = None
        self._commands: dict[bytes, CommandHandler] = {}
        # In the order of their coming: a set is walked in an order of its own in every process.
        self._clients: dict[HostClient, None] = {}
        self._started = rt.event("main: started", owed_by=lambda: [self._task] if self._task else [])
        self._stopping = False
        self._yields = 0
        self._commands_run = 0
        self._accepted = 0
        self.command("PING", self._ping)

    @property
    def address(self) -> Address:
        """Where clients connect. Valid once started."""
        return self._listener.address if self._listener else self._address

    @property
    def task(self) -> Task | None:
        """The main thread, once started."""
        return self._task

    def command(self, name: str, handler: CommandHandler) -> None:
        """Add a command to the table. handler runs on main with the module lock held. Thread: before `start`."""
        self._commands[name.upper().encode()] = handler

    def start(self) -> None:
        """Listen and start the main thread; returns once it turns. Raises OSError when the address can't be had."""
        self._listener = self.loop.listen(self._address, self._accept)
        self._task = self._rt.spawn(self._main, name="main")
        self._started.wait()

    def stop(self, timeout_ns: int | None = None) -> bool:
        """End the main thread and drop its clients. Thread: any but main. Blocks. True when it has ended."""
        if self._task is None:
            self.loop.close()
            return True
        self._stopping = True
        self.loop.stop()
        ended = self._task.join(timeout_ns)
        if ended:
            for client in list(self._clients):
                client.close()
            self._clients.clear()
            self.loop.close()
        return ended

    def _main(self) -> None:
        self.module_lock.acquire()
        self.loop.set_poll_hooks(before=self.module_lock.release, after=self._take_module_lock)
        self._started.set()
        try:
            self.loop.run()
        finally:
            self.loop.set_poll_hooks(None, None)
            self.module_lock.release()

    def _take_module_lock(self) -> None:
        self.module_lock.acquire()

    def _accept(self, transport: Transport) -> HostClient:
        self._accepted += 1
        client = HostClient(self, transport, self._accepted)
        self._clients[client] = None
        return client

    def forget_client(self, client: HostClient) -> None:
        """Called by a client that has gone. Thread: main."""
        self._clients.pop(client, None)

    def run_command(self, client: HostClient, command: object) -> Reply:
        """Look the command up and run it. Thread: main, module lock held. May block, as the command does."""
        if not isinstance(command, list) or not command or not all(isinstance(word, bytes) for word in command):
            return resp_encode.error("ERR a command is an array of bulk strings")
        handler = self._commands.get(command[0].upper())
        if handler is None:
            return resp_encode.error(f"ERR unknown command '{command[0].decode(errors='replace')}'")
        self._commands_run += 1
        return handler(client, command[1:])

    def _ping(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        if len(args) > 1:
            return resp_encode.error("ERR wrong number of arguments for 'ping' command")
        return b"$%d\r\n%s\r\n" % (len(args[0]), args[0]) if args else b"+PONG\r\n"

    def post(self, work: Callable[[], None]) -> None:
        """Have main run `work`, with the module lock held. What it posts itself waits for the next turn, so that it
        cannot keep main from its clients. Thread: any. Never blocks.

        Upstream's list of unblocked clients has no bound; nor has this: it is limited by the number of blocked clients
        and of resizes under way.
        """
        self.loop.post(work, "main: posted work")

    def yield_(self, timeout_ns: int = 0) -> None:
        """Serve clients from inside a command: one turn of the loop, the module lock let go while it polls.

        timeout_ns: how long to wait for something to do, 0 or more. Thread: main. May block for that long.
        Upstream: RedisModule_Yield.
        """
        self._yields += 1
        self.loop.run_once(timeout_ns)

    def yield_until(self, predicate: Callable[[], bool], poll_ns: int, timeout_ns: int) -> tuple[bool, int]:
        """Yield until the predicate holds, looking at least every poll_ns. Returns (held, number of looks).

        Thread: main. Blocks its caller, but serves clients meanwhile. Upstream: the loop in workersThreadPool_Drain.
        """
        deadline_ns = self._rt.now_ns() + timeout_ns
        looks = 1
        while not predicate():
            left_ns = deadline_ns - self._rt.now_ns()
            if left_ns <= 0 or self._stopping:
                return False, looks
            self.yield_(min(poll_ns, left_ns))
            looks += 1
        return True, looks

    @contextmanager
    def module_lock_released(self) -> Iterator[None]:
        """Let go of the module lock for a while without serving clients. Thread: main. Blocks at the end, to take it
        again."""
        self.module_lock.release()
        try:
            yield
        finally:
            self.module_lock.acquire()

    def statistics(self) -> dict[str, int]:
        """commands run, clients connected now and ever, yields."""
        return {
            "commands": self._commands_run,
            "clients": len(self._clients),
            "accepted": self._accepted,
            "yields": self._yields,
        }

    def __repr__(self) -> str:
        return f"<Host {self.address} clients={len(self._clients)} commands={self._commands_run}>"
