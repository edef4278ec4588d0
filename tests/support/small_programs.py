"""Small programs, written once against `rt`, whose final state can be compared. They touch shared state only under a
lock or through cells, as the order of plain stores is in no record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordemu.coord.config import Config
from coordemu.coord.thpool import Thpool
from coordemu.coord.workers import WorkersThreadPool


def log(*_: str) -> None:
    """Nobody listens."""


def together(rt: Any, *targets: Callable[[], object]) -> None:
    """Run them as tasks, and wait for all."""
    for task in [rt.spawn(target, name=f"t{number}") for number, target in enumerate(targets)]:
        task.join()


def mutex_counter(rt: Any) -> Any:
    lock, count, order = rt.lock("lock"), rt.cell(0, "count"), []

    def add(name: int) -> None:
        for _ in range(3):
            with lock:
                count.value += 1
                order.append(name)

    together(rt, *(lambda name=name: add(name) for name in range(3)))
    return count.value, order


def lost_updates(rt: Any) -> Any:
    count = rt.cell(0, "count")

    def add() -> None:
        for _ in range(3):
            count.value += 1

    together(rt, add, add, add)
    return count.value


def compare_and_swap(rt: Any) -> Any:
    count, tries, last = rt.cell(0, "count"), rt.cell(0, "tries"), rt.cell("", "last")

    def add(name: str) -> None:
        for _ in range(2):
            seen = count.value
            while not count.compare_exchange(seen, seen + 1):
                tries.value += 1
                seen = count.value
        last.exchange(name)

    together(rt, lambda: add("a"), lambda: add("b"), lambda: add("c"))
    return count.value, tries.value, last.value


def condition_queue(rt: Any) -> Any:
    lock = rt.lock("lock")
    filled = rt.condition(lock, "filled")
    items: list[int] = []
    got: dict[int, list[int]] = {0: [], 1: []}

    def produce(first: int) -> None:
        for item in range(first, first + 3):
            with lock:
                items.append(item)
                filled.notify()

    def consume(name: int) -> None:
        for _ in range(3):
            with lock:
                while not items:
                    filled.wait()
                got[name].append(items.pop(0))

    together(rt, lambda: consume(0), lambda: produce(0), lambda: consume(1), lambda: produce(10))
    return got


def gate_for_all(rt: Any) -> Any:
    """The notification comes without the lock."""
    lock = rt.lock("lock")
    opened = rt.condition(lock, "opened")
    state: dict[str, Any] = {"open": False, "through": []}

    def come(name: int) -> None:
        with lock:
            while not state["open"]:
                opened.wait()
            state["through"].append(name)

    def open_it() -> None:
        with lock:
            state["open"] = True
        opened.notify_all()

    together(rt, *(lambda name=name: come(name) for name in range(3)), open_it)
    return state


def two_meetings(rt: Any) -> Any:
    first, second, last = rt.barrier(4, "first"), rt.barrier(4, "second"), rt.cell((), "last")

    def meet(name: int) -> None:
        for barrier in (first, second):
            if barrier.wait():
                last.value += (name,)

    together(rt, *(lambda name=name: meet(name) for name in range(4)))
    return last.value


def tickets(rt: Any) -> Any:
    units, inside, most = rt.semaphore(2, "units"), rt.cell(0, "inside"), rt.cell(0, "most")
    lock = rt.lock("lock")

    def visit() -> None:
        units.acquire()
        with lock:
            inside.value += 1
            most.value = max(most.value, inside.value)
        with lock:
            inside.value -= 1
        units.release()

    together(rt, *[visit] * 5)
    return most.value, units.value


def relay(rt: Any) -> Any:
    events = [rt.event(f"leg {number}") for number in range(4)]
    word = rt.cell("", "word")

    def run(number: int) -> None:
        events[number].wait()
        word.value += str(number)
        events[number + 1].set()

    tasks = [rt.spawn(run, number, name=f"runner {number}") for number in (2, 0, 1)]
    early = events[3].is_set()
    events[0].set()
    events[3].wait()
    for task in tasks:
        task.join()
    events[3].clear()
    return word.value, early, events[3].is_set()


def transfers(rt: Any) -> Any:
    locks, sums, log_lock = [rt.lock("left"), rt.lock("right")], [10, 10], rt.lock("log")
    seen: list[tuple[int, ...]] = []

    def move(source: int, amount: int) -> None:
        for _ in range(2):
            with locks[0], locks[1]:
                sums[source] -= amount
                sums[1 - source] += amount
                with log_lock:
                    seen.append(tuple(sums))

    together(rt, lambda: move(0, 1), lambda: move(1, 2), lambda: move(0, 4))
    return sums, seen


def watcher(rt: Any) -> Any:
    steps = rt.cell(0, "steps")

    def work() -> None:
        for _ in range(3):
            rt.sleep_ns(100_000)
            steps.value += 1

    task = rt.spawn(work, name="worker")
    rt.poll_until(lambda: steps.value >= 2, 1_000, "two steps")
    seen = steps.value
    task.join()
    return seen >= 2, steps.value


def family(rt: Any) -> Any:
    """Tasks that spawn tasks, with a name that comes again."""
    count = rt.cell(0, "count")

    def parent(name: str, children: int) -> None:
        for task in [rt.spawn(child, name=f"child of {name}") for _ in range(children)]:
            task.join()

    def child() -> None:
        count.value += 1

    together(rt, lambda: parent("a", 2), lambda: parent("b", 1))
    return count.value


def jobs_of(rt: Any) -> tuple[list[int], Callable[[int], None]]:
    lock, done = rt.lock("done"), []

    def job(number: int) -> None:
        with lock:
            done.append(number)

    return done, job


def pool_of_two(rt: Any) -> Any:
    done, job = jobs_of(rt)
    pool = Thpool(rt, 2, 1, log, "pool")
    for number in range(3):
        pool.add_work(job, number, "high" if number == 1 else "low")
    pool.wait()
    stats = pool.get_stats()
    pool.destroy()
    return done, stats.total_jobs_done, pool.num_threads_alive


def pool_that_revives(rt: Any) -> Any:
    done, job = jobs_of(rt)
    pool = Thpool(rt, 2, 1, log, "pool")
    pool.add_n_work([(job, number) for number in range(3)])
    pool.terminate_when_empty()
    pool.add_n_work([(job, number) for number in range(3, 6)])
    pool.wait()
    pool.destroy()
    return done, pool.num_threads_alive


def pool_that_pauses(rt: Any) -> Any:
    done, job = jobs_of(rt)
    pool = Thpool(rt, 2, 1, log, "pool")
    pool.add_work(job, 0)
    pool.pause_threads()
    pool.add_work(job, 1)
    pool.resume_threads()
    pool.remove_threads(1)
    pool.add_work(job, 2)
    pool.wait()
    pool.destroy()
    return done, pool.num_threads_alive


def resize(rt: Any, reduce: str, by_number: bool = False) -> Any:
    done, job = jobs_of(rt)
    config = Config(workers=2)
    workers = WorkersThreadPool(rt, config, log, by_number=by_number)
    for number, size in enumerate((2, 0, 3, 1)):
        config.config_set("WORKERS", str(size))
        workers.set_num_workers(reduce)
        if size:
            workers.add_work(job, number)
            workers.add_work(job, 10 + number)
    workers.pool.wait()
    workers.destroy()
    return done, workers.num_threads_alive


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    program.__name__: program
    for program in (
        mutex_counter,
        lost_updates,
        compare_and_swap,
        condition_queue,
        gate_for_all,
        two_meetings,
        tickets,
        relay,
        transfers,
        watcher,
        family,
        pool_of_two,
        pool_that_revives,
        pool_that_pauses,
    )
}
PROGRAMS["resize_async"] = lambda rt: resize(rt, "async")
PROGRAMS["resize_sync"] = lambda rt: resize(rt, "sync")
PROGRAMS["resize_by_number"] = lambda rt: resize(rt, "by-number", by_number=True)
