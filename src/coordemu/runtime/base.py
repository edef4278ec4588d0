"""The runtime seam: everything the layers may know about time, threads, chance and the network.

Role: a layer holds one value, ``rt``, that satisfies `Runtime`, and reaches the outside world through
it and through nothing else. `coordemu.runtime.threads` offers these verbs with real threads, the
monotonic clock, epoll and sockets; a simulator can offer them with greenlets and virtual time, and not
a line of a layer changes. A test (tests/test_layers.py) refuses any import of threading, time, random,
selectors, socket or greenlet outside ``coordemu.runtime``.

Three decisions shape the interface.

* *Everything that can block is named and says who could end the wait.* A primitive lists its holders
  (the owner of a lock, the tasks that a barrier still misses, whoever owes the setting of an event) and
  its waiters. The wait-for graph (`coordemu.runtime.wait_for`) is read from that, on any runtime, and
  so is a verdict: a chain of waits that closes is a cycle; one that ends at nobody is an orphan.
* *Waiting by sleeping is a verb of its own* (`Runtime.poll_until`). Upstream sleeps in loops in several
  places; were those loops written with `sleep_ns`, a simulated hang would look like an endless run.
* *A cell is a shared variable whose accesses are visible to the runtime.* Real threads pay a plain
  attribute; a simulator may switch tasks at each access.

Thread: every docstring says which thread may call. "Any" means any task of this runtime; a thread that
the runtime did not spawn is adopted on its first call and shows up under its own thread name.

Upstream: pthread mutexes, conditions and barriers (deps/thpool), libuv's loop, async and timer handles
(src/coord/rmr), RedisModule_ThreadSafeContextLock for the module lock. Left out: signals, processes
(`coordemu.shards` starts those), files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Address:
    """Where a transport connects to, or a listener listens: a TCP pair, or a unix socket's path.

    host: name or address, ignored when `path` is set.  port: 0 to 65535; 0 asks a listener for a free one.
    path: a unix socket's file, "" for TCP.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not within 0..65535")

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


class TransportClosed(Exception):
    """A write on a transport that is not open."""


@runtime_checkable
class Waitable(Protocol):
    """Anything a task can wait for: a primitive of the runtime, or a layer's own object.

    A layer implements this to carry the wait-for graph past the primitive: a request that waits for
    replies names the connections that owe them.
    """

    @property
    def name(self) -> str: ...

    def holders(self) -> Sequence[Holder]:
        """Who must act before a waiter can go on. Empty: nobody will, which is an orphaned wait.

        Thread: any (the watchdog calls it while others run; it must neither block nor raise).
        """
        ...


class Task(Protocol):
    """One thread of control. Created by `Runtime.spawn`, or adopted."""

    @property
    def name(self) -> str: ...
    @property
    def ident(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    @property
    def waiting_on(self) -> Waitable | None:
        """What it waits for now; None while it runs (or waits inside a loop's poll)."""
        ...

    @property
    def waiting_since_ns(self) -> int: ...
    @property
    def error(self) -> BaseException | None:
        """What its function raised, once it has ended."""
        ...

    def join(self, timeout_ns: int | None = None) -> bool:
        """Wait for its end. True when it has ended. May block. Raises nothing of the task's own."""
        ...

    def call_stack(self) -> list[str]:
        """Its frames, outermost first, one "file:line function" each; empty when it has ended."""
        ...


# A dead end is written as a plain string ("nobody: the connection was dropped").
Holder = Task | Waitable | str
OwedBy = Callable[[], Sequence[Holder]]


class Lock(Protocol):
    """A mutual exclusion lock that knows its owner. Not reentrant: a second acquire by the owner waits for itself."""

    @property
    def name(self) -> str: ...
    @property
    def owner(self) -> Task | None: ...
    def acquire(self, timeout_ns: int | None = None) -> bool:
        """True when taken; False only on time-out (None: no limit; 0: try). May block."""
        ...

    def release(self) -> None:
        """Raises RuntimeError when the caller is not the owner."""
        ...

    def locked(self) -> bool: ...
    def waiters(self) -> Sequence[Task]: ...
    def holders(self) -> Sequence[Holder]: ...
    def __enter__(self) -> object: ...
    def __exit__(self, *exc: object) -> None: ...


class Condition(Protocol):
    """A condition variable over a `Lock` of the same runtime. Spurious wake-ups are allowed: wait in a loop."""

    @property
    def name(self) -> str: ...
    @property
    def lock(self) -> Lock: ...
    def wait(self, timeout_ns: int | None = None) -> bool:
        """Release the lock, wait, take it again. False on time-out. The caller owns the lock. May block."""
        ...

    def notify(self, n: int = 1) -> None: ...
    def notify_all(self) -> None: ...
    def waiters(self) -> Sequence[Task]: ...
    def holders(self) -> Sequence[Holder]: ...


class Event(Protocol):
    """A flag that can be waited for. `owed_by`, given at creation, names who will set it."""

    @property
    def name(self) -> str: ...
    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout_ns: int | None = None) -> bool:
        """True when set; False on time-out. May block."""
        ...

    def waiters(self) -> Sequence[Task]: ...
    def holders(self) -> Sequence[Holder]: ...


class Barrier(Protocol):
    """A meeting of exactly n tasks, once. `expected`, given at creation, names the tasks that should come."""

    @property
    def name(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def arrived(self) -> int: ...
    def wait(self) -> bool:
        """Wait until n tasks have called. True for exactly one of them, the last to arrive. May block."""
        ...

    def waiters(self) -> Sequence[Task]: ...
    def holders(self) -> Sequence[Holder]: ...


class Semaphore(Protocol):
    """A counting semaphore, first come first served."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...
    def acquire(self, timeout_ns: int | None = None) -> bool: ...
    def release(self, n: int = 1) -> None: ...
    def waiters(self) -> Sequence[Task]: ...
    def holders(self) -> Sequence[Holder]: ...


class Cell(Protocol, Generic[T]):
    """A shared variable. Reading and writing `value` are single steps; the methods are atomic.

    Upstream's C11 atomics and the plain globals it shares between threads.
    """

    name: str
    value: T

    def exchange(self, new: T) -> T:
        """Store `new`, return what was there."""
        ...

    def compare_exchange(self, expected: T, new: T) -> bool:
        """Store `new` if the value equals `expected`. True when stored."""
        ...


class TransportHandler(Protocol):
    """What a transport calls. Every call comes on the thread of the loop that owns the transport."""

    def on_connect(self) -> None:
        """The connection stands. Called once, before any data (not for accepted transports)."""
        ...

    def on_data(self, data: bytes) -> None:
        """Bytes have come, at least one, in order."""
        ...

    def on_close(self, reason: str | None) -> None:
        """It has ended: refused, timed out, reset, or closed by the peer. Called at most once, and never
        after the owner's own `Transport.close` or `Transport.abort`. reason None: the peer closed in good order."""
        ...


class Transport(Protocol):
    """A byte stream owned by one loop. Thread: that loop's, for every method."""

    @property
    def address(self) -> Address: ...
    @property
    def connected(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        ...

    def write(self, data: bytes) -> None:
        """Queue bytes; all writes of one loop turn leave together, at its end. Never blocks.

        Raises TransportClosed when not connected. The buffer has no bound of its own, as upstream's has none.
        """
        ...

    def close(self) -> None:
        """Send what is queued, then close. No callback follows. Idempotent."""
        ...

    def abort(self) -> None:
        """Close at once; what is queued is lost. No callback follows. Idempotent."""
        ...

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Listener(Protocol):
    """A listening socket of one loop."""

    @property
    def address(self) -> Address:
        """Where it really listens (the port that was found for port 0)."""
        ...

    def close(self) -> None: ...


class AsyncHandle(Protocol):
    """A wake-up of a loop from any thread. Sends that come before the callback runs count as one. Upstream:
    uv_async_t."""

    @property
    def name(self) -> str: ...
    def send(self) -> None:
        """Have the loop run the callback. Thread: any. Never blocks; nothing happens after the handle or loop is
        closed."""
        ...

    def close(self) -> None: ...


class Timer(Protocol):
    """A timer of one loop. Thread: the loop's (or any, while the loop does not run). Upstream: uv_timer_t."""

    @property
    def name(self) -> str: ...
    @property
    def active(self) -> bool: ...
    def start(self, delay_ns: int, repeat_ns: int = 0) -> None:
        """(Re)arm: call back after delay_ns (>= 0), then every repeat_ns when that is not 0."""
        ...

    def stop(self) -> None: ...
    def close(self) -> None: ...


class Loop(Protocol):
    """An event loop. The thread that calls `run` or `run_once` owns it from then on.

    An exception that a callback lets out ends `run` and is raised to its caller: a layer's bug is not swallowed.
    """

    @property
    def name(self) -> str: ...
    def run(self) -> None:
        """Turn until `stop`. May block. A stop that came before run makes the next run return at once."""
        ...

    def run_once(self, timeout_ns: int | None = 0) -> int:
        """One turn: wait at most timeout_ns for something to do (None: no limit), do it. Returns the number of
        callbacks run. Nested calls from inside a callback are allowed (upstream's yield). May block."""
        ...

    def stop(self) -> None:
        """End `run` after this turn. Thread: any."""
        ...

    def close(self) -> None:
        """Abort its transports, close listeners, timers, handles and the poller. Idempotent. Not while it runs."""
        ...

    def async_handle(self, callback: Callable[[], None], name: str) -> AsyncHandle: ...
    def post(self, work: Callable[[], object], name: str) -> None:
        """Have the loop run `work` once, in the order of posting; what is posted meanwhile waits for the next turn.
        Thread: any. Never blocks; nothing happens after the loop is closed. Bound: none, nor has upstream's
        (RedisModule_EventLoopAddOneShot)."""
        ...

    def timer(self, callback: Callable[[], None], name: str) -> Timer: ...
    def connect(self, address: Address, handler: TransportHandler, timeout_ns: int | None = None) -> Transport:
        """Begin to connect; `on_connect` or `on_close` tells the outcome, never before this returns.
        timeout_ns bounds the handshake (None: the kernel's own)."""
        ...

    def listen(
        self, address: Address, accept: Callable[[Transport], TransportHandler], backlog: int = 1024
    ) -> Listener:
        """Accept connections; `accept` makes each one's handler. Raises OSError when the address can't be had."""
        ...

    def set_poll_hooks(self, before: Callable[[], None] | None, after: Callable[[], None] | None) -> None:
        """Called around every poll, on the loop's thread: the host releases the module lock before, and takes it
        after."""
        ...

    def statistics(self) -> dict[str, int]:
        """turns, callbacks, wake_ups, bytes_in, bytes_out, transports."""
        ...


@dataclass(frozen=True, slots=True)
class DrainWait:
    """How a wait for a drain ended.

    outcome: "drained", "deadline", or "superseded" (the wait was called off).  waited_ns: on the runtime's clock.
    polls: how often the count was read by a poll.  wake_ups: how often the waiter was woken.
    """

    outcome: str
    waited_ns: int
    polls: int
    wake_ups: int


class DrainGate(Protocol):
    """What a drain waits at: open while nothing that it guards is outstanding. `coordemu.native.PendingTable` is
    one."""

    @property
    def name(self) -> str: ...
    @property
    def drained(self) -> bool: ...
    def wait_by_polling(self, interval_ns: int, timeout_ns: int) -> DrainWait:
        """Block the OS thread, without the interpreter lock, reading the count every interval_ns."""
        ...

    def wait_for_wake(self, timeout_ns: int) -> DrainWait:
        """Block the OS thread, without the interpreter lock, until the last reply wakes it."""
        ...


class Random(Protocol):
    """The chance that layers may use. `random.Random` satisfies it."""

    def random(self) -> float: ...
    def uniform(self, a: float, b: float) -> float: ...
    def expovariate(self, lambd: float = 1.0) -> float: ...
    def randint(self, a: int, b: int) -> int: ...
    def choice(self, seq: Sequence[T]) -> T: ...
    def shuffle(self, x: list[Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One step worth seeing: when, on which task, upstream's name for it, ours, and what happened."""

    at_ns: int
    task: str
    upstream: str
    ours: str
    detail: str


class Runtime(Protocol):
    """The verbs. One value per laboratory; a process may hold several."""

    @property
    def name(self) -> str:
        """ "threads" or "sim"; for reports only: a layer never asks."""
        ...

    @property
    def random(self) -> Random: ...

    # clock
    def now_ns(self) -> int:
        """A clock that never goes back, in nanoseconds, from an origin of its own. Thread: any."""
        ...

    def sleep_ns(self, duration_ns: int) -> None:
        """Sleep. Blocks. duration_ns >= 0; 0 only gives way."""
        ...

    def poll_until(
        self,
        predicate: Callable[[], bool],
        interval_ns: int,
        why: str,
        timeout_ns: int | None = None,
        owed_by: OwedBy | None = None,
    ) -> bool:
        """Wait as upstream does in its sleeping loops: read the predicate, sleep, read again. True when it held.

        why: what is waited for, shown in the wait-for graph.  owed_by: who can make it true.  Blocks.
        """
        ...

    def drain_wait(self, gate: DrainGate, timeout_ns: int, poll_ns: int | None = None) -> DrainWait:
        """Block until the gate has drained: by polling every poll_ns, or (None) woken by the last reply."""
        ...

    # tasks
    def spawn(self, target: Callable[..., object], *args: object, name: str) -> Task: ...
    def current(self) -> Task: ...
    def tasks(self) -> Sequence[Task]:
        """All that are alive, adopted ones included."""
        ...

    # primitives
    def lock(self, name: str) -> Lock: ...
    def condition(self, lock: Lock, name: str, owed_by: OwedBy | None = None) -> Condition: ...
    def event(self, name: str, owed_by: OwedBy | None = None) -> Event: ...
    def barrier(self, n: int, name: str, expected: Callable[[], Sequence[Task]] | None = None) -> Barrier: ...
    def semaphore(self, value: int, name: str) -> Semaphore: ...
    def cell(self, value: T, name: str) -> Cell[T]: ...

    # network and loops
    def loop(self, name: str) -> Loop: ...

    # what happened
    def trace(self, upstream: str, ours: str, detail: str = "") -> None:
        """Record a step with the time and the calling task. Bounded: the newest 65,536 are kept. Never blocks."""
        ...

    def trace_events(self) -> Sequence[TraceEvent]: ...
