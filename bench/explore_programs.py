"""Programs for the benchmark of the simulator and its search: small, the same on both runtimes.

Role: what `bench.explore` plays. Each is a function of a runtime; none knows which it is.

Thread: the caller's, and the tasks that they spawn. Upstream: the thread pool, at its smallest. Left out: the
coordinator, which is `coordemu.lab.order_run`'s.
"""

from __future__ import annotations

from coordemu.runtime.base import NS_PER_S, Runtime

TASKS = 12
ROUNDS = 5
STEPS_EACH = 6  # a round: acquire, read, write; read, write; read
TOY_STEPS = TASKS * ROUNDS * STEPS_EACH
DAY_S = 24 * 3600


def toy(rt: Runtime) -> None:
    """12 tasks x 30 steps: a counter under a lock, and cells that three of them share."""
    lock = rt.lock("counter")
    counter = rt.cell(0, "counter")
    shared = [rt.cell(0, f"cell {number}") for number in range(TASKS // 3)]

    def work(number: int) -> None:
        cell = shared[number % len(shared)]
        for step in range(ROUNDS):
            with lock:
                counter.value += 1
            cell.value += step
            assert cell.value >= 0

    tasks = [rt.spawn(work, number, name=f"task {number}") for number in range(TASKS)]
    for task in tasks:
        task.join()
    assert counter.value == TASKS * ROUNDS


def nothing(rt: Runtime) -> None:
    """12 tasks that begin and end."""
    for task in [rt.spawn(int, name=f"task {number}") for number in range(TASKS)]:
        task.join()


def small_pool(rt: Runtime) -> None:
    """2 workers, 2 jobs that need the module lock: a queue under a lock with its condition, as a thread pool's."""
    queue = rt.lock("queue")
    not_empty = rt.condition(queue, "not empty")
    module = rt.lock("module lock")
    jobs: list[int] = []
    done = rt.cell(0, "done")
    ending = [False]

    def worker() -> None:
        while True:
            with queue:
                while not jobs and not ending[0]:
                    not_empty.wait()
                if not jobs:
                    return
                jobs.pop()
            with module:
                done.value += 1

    workers = [rt.spawn(worker, name=f"worker {number}") for number in range(2)]
    for number in range(2):
        with queue:
            jobs.append(number)
            not_empty.notify()
    with queue:
        ending[0] = True
        not_empty.notify_all()
    for task in workers:
        task.join()
    assert done.value == 2


def planted(rt: Runtime) -> None:
    """A deadlock that few orders reach: of 8 workers one says that it is done before it has taken a lock, and main,
    told so by all, takes that lock for as long as it waits for their ends."""
    lock = rt.lock("module lock")
    guard = rt.lock("guard")
    all_done = rt.condition(guard, "all done")
    workers = TASKS - 4
    ends = rt.barrier(workers + 1, "ends")
    done = [0]

    def worker(number: int) -> None:
        for _ in range(3):
            with guard:
                pass
        with guard:
            done[0] += 1
            all_done.notify()
        if number == 3:
            with lock:
                pass
        ends.wait()

    tasks = [rt.spawn(worker, number, name=f"worker {number}") for number in range(workers)]
    with guard:
        while done[0] < workers:
            all_done.wait()
    with lock:
        ends.wait()
    for task in tasks:
        task.join()


def keep_alive_day(rt: Runtime) -> None:
    """A loop with a timer that fires every second, for 24 hours."""
    loop = rt.loop("io")
    ticks: list[None] = []
    loop.timer(lambda: ticks.append(None), "keep-alive").start(NS_PER_S, NS_PER_S)
    loop.timer(loop.stop, "end").start(DAY_S * NS_PER_S + 1)
    loop.run()
    loop.close()
    assert len(ticks) == DAY_S
