"""Real runs as orders of operations, and a strategy that has the simulator take the operations in that order.

`RecordingRuntime` wraps `ThreadsRuntime` and writes down each operation as the simulator would label its step:
(task's key, label). One real mutex makes an operation and its entry one step. What blocks can't hold it; so:

* *Arriving.* A task that is going to queue itself says so under the mutex, and whoever takes the mutex next waits until
  it really is in the queue. So arrivals, and what is granted to whom, are in the order of the record.
* *Coming back.* A blocked operation is written down when it returns. A lock's taking is then a moment older than its
  entry; nobody can take it in between, and a `try`, which could tell, is refused here.

Where the granularity differs. Releasing a lock, and a task's end, are no steps in the simulator: they happen right
after the step before them, so never later than in the real run. They only make other steps possible, with one
exception: who joins a task, or looks whether it lives, may find it ended earlier; joins are therefore entries that may
be left out. A wait for an event is one step, when it ends (an event that is cleared under an arriving waiter's feet is
not modelled). A look of `poll_until`, and the waking from a sleep, come when time has passed: for these `Follow` lets
the clock go on. Not recorded: time limits, `try`, loops, drains.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from coordemu.runtime.sim_schedule import CLOCK_NAME, SimDivergence
from coordemu.runtime.threads import ThreadsRuntime

# (task's key, label, whether it may be left out)
Entry = tuple[str, str, bool]
Operation = Callable[[], Any]


class Recorder:
    """The record, and the mutex. disturb: how often (0.0 to 1.0) a task pauses before an operation."""

    def __init__(self, seed: int, disturb: float) -> None:
        self.rt = ThreadsRuntime(seed)
        self.entries: list[Entry] = []
        self.keys: dict[Any, str] = {}
        self._mutex = threading.Lock()
        self._arriving: Callable[[], bool] | None = None
        self._chance = random.Random(seed)
        self._disturb = disturb

    @contextmanager
    def step(self, label: str, left_out: bool = False) -> Iterator[None]:
        """An operation and its entry at once."""
        if self._chance.random() < self._disturb:
            time.sleep(self._chance.random() * 1e-4)
        with self._mutex:
            while self._arriving is not None and not self._arriving():
                time.sleep(0)
            self._arriving = None
            yield
            self.entries.append((self.keys[self.rt.current()], label, left_out))

    def arrive(self, primitive: Any) -> None:
        """Inside of `step`: the caller queues itself at the primitive next, and can do nothing else before."""
        task = self.rt.current()
        self._arriving = lambda: task in primitive.waiters()


class Wrapped:
    """A primitive, with what is not overridden as it is."""

    def __init__(self, recorder: Recorder, real: Any) -> None:
        self.recorder = recorder
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class RecordedLock(Wrapped):
    def acquire(self, timeout_ns: int | None = None) -> bool:
        assert timeout_ns is None
        self.real.acquire()
        with self.recorder.step(f"acquire {self.real.name}"):
            return True

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.real.release()


def at_once(verb: str, method: str) -> Callable[..., Any]:
    """An operation that never blocks."""

    def call(self: Wrapped, *args: Any) -> Any:
        with self.recorder.step(f"{verb} {self.real.name}"):
            return getattr(self.real, method)(*args)

    return call


class RecordedCondition(Wrapped):
    notify, notify_all = at_once("notify", "notify"), at_once("notify", "notify_all")

    def wait(self, timeout_ns: int | None = None) -> bool:
        assert timeout_ns is None
        with self.recorder.step(f"wait {self.real.name}"):
            self.recorder.arrive(self.real)
        self.real.wait()
        with self.recorder.step(f"acquire {self.real.lock.name}"):
            return True


class RecordedEvent(Wrapped):
    is_set, set, clear = at_once("test", "is_set"), at_once("set", "set"), at_once("clear", "clear")

    def wait(self, timeout_ns: int | None = None) -> bool:
        assert timeout_ns is None
        self.real.wait()
        with self.recorder.step(f"wait {self.real.name}"):
            return True


class RecordedBarrier(Wrapped):
    came = 0

    def wait(self) -> bool:
        with self.recorder.step(f"arrive {self.real.name}"):
            self.came += 1
            if self.came == self.real.n:
                return bool(self.real.wait())
            self.recorder.arrive(self.real)
        self.real.wait()
        with self.recorder.step(f"pass {self.real.name}"):
            return False


class RecordedSemaphore(Wrapped):
    release = at_once("give", "release")

    def acquire(self, timeout_ns: int | None = None) -> bool:
        assert timeout_ns is None
        label = f"take {self.real.name}"
        with self.recorder.step(label):
            if self.real.acquire(0):
                return True
            self.recorder.arrive(self.real)
        self.real.acquire()
        with self.recorder.step(label):
            return True


class RecordedCell(Wrapped):
    exchange, compare_exchange = at_once("write", "exchange"), at_once("write", "compare_exchange")

    @property
    def value(self) -> Any:
        with self.recorder.step(f"read {self.real.name}"):
            return self.real.value

    @value.setter
    def value(self, new: Any) -> None:
        with self.recorder.step(f"write {self.real.name}"):
            self.real.value = new


class RecordedTask(Wrapped):
    def __init__(self, recorder: Recorder, real: Any, key: str) -> None:
        super().__init__(recorder, real)
        self.key = key

    def join(self, timeout_ns: int | None = None) -> bool:
        assert timeout_ns is None
        with self.recorder.step(f"join {self.key}", left_out=True):
            if not self.real.alive:
                return True
        self.real.join()
        with self.recorder.step(f"join {self.key}", left_out=True):
            return True


class RecordingRuntime:
    """`ThreadsRuntime` by composition."""

    def __init__(self, seed: int, disturb: float = 0.2) -> None:
        self.recorder = Recorder(seed, disturb)
        self._rt = self.recorder.rt
        self._times: dict[str, int] = {}
        self.make_lock = RecordedLock
        self.now_ns, self.trace, self.name = self._rt.now_ns, self._rt.trace, self._rt.name

    def run(self, main: Callable[[], Any], patience_ns: int) -> Any:
        """Run `main` as the first task. Returns its result."""
        results: list[Any] = []
        task = self._spawn(lambda: results.append(main()), "main", "main")
        assert task.real.join(patience_ns), "the real run hangs"
        assert task.real.error is None, task.real.error
        return results[0]

    def _spawn(self, target: Callable[[], object], name: str, key: str) -> RecordedTask:
        def body() -> None:
            self.recorder.keys[self._rt.current()] = key
            with self.recorder.step("start"):
                pass
            target()

        return RecordedTask(self.recorder, self._rt.spawn(body, name=name), key)

    def spawn(self, target: Callable[..., object], *args: object, name: str) -> RecordedTask:
        self._times[name] = again = self._times.get(name, 0) + 1
        key = name if again == 1 else f"{name}~{again}"
        with self.recorder.step(f"spawn {key}"):
            return self._spawn(lambda: target(*args), name, key)

    def current(self) -> RecordedTask:
        task = self._rt.current()
        return RecordedTask(self.recorder, task, self.recorder.keys[task])

    def sleep_ns(self, duration_ns: int) -> None:
        self._rt.sleep_ns(duration_ns)
        with self.recorder.step("sleep" if duration_ns else "give way"):
            pass

    def poll_until(self, predicate: Callable[[], bool], interval_ns: int, why: str, **_: Any) -> bool:
        """Each look is a step, and so is what the predicate asks of the runtime; it must not read anything else."""
        while True:
            with self.recorder.step(f"look: {why}"):
                pass
            if predicate():
                return True
            time.sleep(max(interval_ns / 1e9, 2e-4))

    def lock(self, name: str) -> RecordedLock:
        return self.make_lock(self.recorder, self._rt.lock(name))

    def condition(self, lock: RecordedLock, name: str, owed_by: Any = None) -> RecordedCondition:
        return RecordedCondition(self.recorder, self._rt.condition(lock.real, name))

    def event(self, name: str, owed_by: Any = None) -> RecordedEvent:
        return RecordedEvent(self.recorder, self._rt.event(name))

    def barrier(self, n: int, name: str, expected: Any = None) -> RecordedBarrier:
        return RecordedBarrier(self.recorder, self._rt.barrier(n, name))

    def semaphore(self, value: int, name: str) -> RecordedSemaphore:
        return RecordedSemaphore(self.recorder, self._rt.semaphore(value, name))

    def cell(self, value: Any, name: str) -> RecordedCell:
        return RecordedCell(self.recorder, self._rt.cell(value, name))


class Follow:
    """A strategy: the entries in their order. `choose` raises SimDivergence where the simulator says "impossible"."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.name = "follow"
        self._entries = entries
        self.at = 0

    def born(self, actor: Any) -> None: ...

    def gave_way(self, actor: Any) -> None: ...

    def pick(self, count: int, label: str, share: float) -> int:
        return 0

    def choose(self, enabled: Sequence[Any], last: Any) -> Any:
        possible = {actor.key: actor for actor in enabled}
        while self.at < len(self._entries):
            key, label, left_out = self._entries[self.at]
            if key in possible and possible[key].label == label:
                self.at += 1
                return possible[key]
            if left_out:
                self.at += 1
            elif (label == "sleep" or label.startswith("look: ")) and key not in possible and CLOCK_NAME in possible:
                return possible[CLOCK_NAME]
            else:
                can = {actor.key: actor.label for actor in enabled}
                raise SimDivergence(self.at + 1, f"{key}: {label!r} is impossible; possible are {can}")
        raise SimDivergence(self.at + 1, f"the record has ended; possible are {sorted(possible)}")
