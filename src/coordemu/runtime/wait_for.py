"""Who waits for whom: the wait-for graph of a runtime, read while it runs, and the chain from one task.

Role: a watchdog asks here why nothing moves. The graph has tasks, what they wait for, and whoever holds that: tasks
again, other waitables (a layer's request names its connections), or plain words for peers outside the process.
Words that start with "nobody" are a dead end; so are a resource without holders, and a task that has ended.

A resource needs *all* its holders to act, unless it has a true attribute `any_suffices`. What can still end is found
first, outwards from running tasks and outside peers; whatever is left is stuck, in a cycle or on the way to one, or
to a dead end. So a chain through a choice is not called a cycle while one of the alternatives lives.

Nothing is locked, so what is read may belong to different moments. A task counts as stuck only if it was in the very
same wait before the look began and after its surroundings were read: tasks that waited all that time can't have given
anything away, so a cycle among them was real. An orphan can be a hand-over in flight that `owed_by` does not know about
(the reply has come, and the poll has not looked yet): believe it when two looks some time apart agree.

A waitable may say how to be read aloud: attributes `kind` ("lock") and `relation` ("held by").

Thread: any; never blocks. Works on `base.Runtime` alone. Bound: 10,000 resources per look. Upstream: nothing; its
authors took stacks with a debugger. Left out: threads that no runtime knows, waits inside the kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from coordemu.runtime.base import NS_PER_S, Holder, Runtime, Task, Waitable

MAX_RESOURCES = 10_000

RUNS, WAITS, CYCLE, ORPHAN = "runs", "waits", "cycle", "orphan"


@dataclass(frozen=True, slots=True)
class WaitEdge:
    """One wait. waiter: a task, or a waitable that others wait for.  on: the name of what it waits for ("" when the
    waiter is that itself).  held_by: names, or words.  since_ns: when the task began, 0 for a waitable."""

    waiter: str
    on: str
    held_by: tuple[str, ...]
    since_ns: int


@dataclass(frozen=True, slots=True)
class Chain:
    """The way from one task to the reason why it does not go on.

    kind: "runs" (it does not wait), "waits" (for a task that runs, or for an outside peer), "cycle" (the way comes
    back to itself: its last step is an earlier one), "orphan" (it ends at nobody).
    steps: names along the way, from the task on.  sentence: the same in words.
    since_ns: when the task's wait began, 0 when it does not wait.  at_ns: when this was read, on the runtime's
        clock; two chains are equal without it, so two looks can be compared.
    """

    kind: str
    steps: tuple[str, ...]
    sentence: str
    since_ns: int = 0
    at_ns: int = field(default=0, compare=False)


@dataclass(slots=True, eq=False)
class _Node:
    """A task, a waitable or words, as seen once. `all_of`: every successor must act, not just one."""

    name: str
    task: Task | None = None
    waitable: Waitable | None = None
    since_ns: int = 0
    next: list[_Node] = field(default_factory=list)
    all_of: bool = True
    alive: bool = False  # can act, as far as one sees
    end: str = ""  # words for a leaf

    @property
    def phrase(self) -> str:
        """A waitable's name with its kind."""
        kind = getattr(self.waitable, "kind", "")
        return f"{kind} '{self.name}'" if kind else self.name

    @property
    def relation(self) -> str:
        """How a waitable stands to its holders."""
        return str(getattr(self.waitable, "relation", "which is up to"))


def edges(rt: Runtime) -> list[WaitEdge]:
    """All waits of a runtime's tasks, then those between waitables. Thread: any. Never blocks."""
    look = _Look(rt.tasks())
    for task in rt.tasks():
        look.task(task)
    look.spread()
    found = []
    for node in look.nodes:
        if node.task is not None and node.next:
            resource = node.next[0]
            held_by = tuple(holder.name for holder in resource.next)
            found.append(WaitEdge(node.name, resource.name, held_by, node.since_ns))
    for node in look.nodes:
        if node.waitable is not None:
            found += [
                WaitEdge(node.name, other.name, tuple(holder.name for holder in other.next), 0)
                for other in node.next
                if other.waitable is not None
            ]
    return found


def chain_from(rt: Runtime, task: Task) -> Chain:
    """Why `task`, of runtime `rt`, does not go on.

    Thread: any, also the task's own, which then runs. Never blocks.
    """
    return chains_from(rt, (task,))[0]


def chains_from(rt: Runtime, tasks: Sequence[Task]) -> list[Chain]:
    """`chain_from` for several, all from one look. Thread: any. Never blocks."""
    at_ns = rt.now_ns()
    look = _Look(rt.tasks())
    starts = [look.task(task) for task in tasks]
    look.spread()
    look.judge()
    return [_chain(start, at_ns) for start in starts]


def _chain(start: _Node, at_ns: int) -> Chain:
    if not start.next:
        kind = RUNS if start.alive else ORPHAN
        return Chain(kind, (start.name,), f"{start.name} {start.end}", at_ns=at_ns)
    kind, path = _find_end(start)
    return Chain(kind, tuple(node.name for node in path), _in_words(kind, path), start.since_ns, at_ns)


def render(rt: Runtime) -> str:
    """The waits for a human: one line per task that waits, its chain in words, and a line for those that run."""
    tasks = rt.tasks()
    return render_chains(rt, tasks, [chain_from(rt, task) for task in tasks])


def render_chains(rt: Runtime, tasks: Sequence[Task], chains: Sequence[Chain]) -> str:
    """`render`, from the tasks' chains as they were read just now."""
    now_ns = rt.now_ns()
    lines = []
    running = []
    for task, chain in zip(tasks, chains, strict=True):
        since_ns = task.waiting_since_ns
        if chain.kind == RUNS:
            running.append(task.name)
        else:
            seconds = max(now_ns - since_ns, 0) / NS_PER_S if since_ns else 0.0
            lines.append(f"[{chain.kind}, {seconds:.3f} s] {chain.sentence}")
    if running:
        lines.append(f"[runs] {', '.join(running)}")
    return "\n".join(lines)


class _Look:
    """One reading of the graph."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        # What they wait for ahead of everything: a wait that is younger than the look may belong to a task that gave
        # away what it was seen to hold.
        self._before = {id(task): (task, task.waiting_since_ns, task.waiting_on) for task in tasks}
        self.nodes: list[_Node] = []
        self._by_id: dict[int, _Node] = {}
        self._kept: list[object] = []  # so that no id is used twice during the look
        self._resources = 0
        self._todo: deque[_Node] = deque()

    def _known(self, thing: object, make: Callable[[], _Node]) -> _Node:
        node = self._by_id.get(id(thing))
        if node is None:
            node = self._by_id[id(thing)] = make()
            self._kept.append(thing)
            self.nodes.append(node)
            self._todo.append(node)
        return node

    def task(self, task: Task) -> _Node:
        """The node of a task."""
        return self._known(task, lambda: _Node(task.name, task=task))

    def _waitable(self, waitable: Waitable) -> _Node:
        return self._known(waitable, lambda: _Node(waitable.name, waitable=waitable))

    def _words(self, words: str) -> _Node:
        return _Node(words, alive=not words.startswith("nobody"))

    def _holder(self, holder: Holder) -> _Node:
        if isinstance(holder, str):
            return self._words(holder)
        # A task has no holders of its own, which is what tells the two apart.
        return self._waitable(holder) if isinstance(holder, Waitable) else self.task(holder)

    def spread(self) -> None:
        """Read on from what is known until nothing new appears, then read the tasks' waits once more."""
        while self._todo:
            node = self._todo.popleft()
            if node.task is not None:
                self._read_task(node, node.task)
            elif node.waitable is not None:
                self._read_waitable(node, node.waitable)
        for node in self.nodes:
            if node.task is not None and node.next:
                now_on, since_ns = node.task.waiting_on, node.task.waiting_since_ns
                _, before_ns, before_on = self._before.get(id(node.task), (None, 0, None))
                if not (before_on is now_on is node.next[0].waitable and before_ns == since_ns == node.since_ns):
                    node.next = []  # it moved meanwhile, so it is not stuck
                    node.alive, node.end = True, "runs"

    def _read_task(self, node: _Node, task: Task) -> None:
        since_ns = task.waiting_since_ns
        waiting_on = task.waiting_on
        if not task.alive:
            node.end = "has ended"
        elif waiting_on is None:
            node.alive, node.end = True, "runs"
        else:
            node.since_ns = since_ns
            node.next = [self._waitable(waiting_on)]

    def _read_waitable(self, node: _Node, waitable: Waitable) -> None:
        self._resources += 1
        node.all_of = not getattr(waitable, "any_suffices", False)
        if self._resources > MAX_RESOURCES:
            node.next = [self._words("more than can be looked at")]
            return
        try:
            holders: Sequence[Holder] = tuple(waitable.holders())
        except Exception as error:  # a layer's callable that lost a race; its wait may well be in order
            holders = (f"holders that could not be read ({error!r})",)
        node.next = [self._holder(holder) for holder in holders]

    def judge(self) -> None:
        """Mark as alive whatever can still end: the least set that contains the leaves that act, and follows."""
        waited_by: dict[_Node, list[_Node]] = {}
        missing: dict[_Node, int] = {}
        alive: deque[_Node] = deque()
        for node in self.nodes:
            for other in node.next:
                waited_by.setdefault(other, []).append(node)
                if other.task is None and other.waitable is None and other.alive:
                    alive.append(other)
            missing[node] = len(node.next) if node.all_of else min(1, len(node.next))
            if node.alive:
                alive.append(node)
        while alive:
            for node in waited_by.get(alive.popleft(), ()):
                missing[node] -= 1
                if missing[node] == 0 and not node.alive:
                    node.alive = True
                    alive.append(node)


def _find_end(start: _Node) -> tuple[str, list[_Node]]:
    """The kind of a waiting task's chain, and the way that shows it: a cycle before an orphan, a short one first."""
    if start.alive:
        return WAITS, _shortest(start, lambda node: node.alive and not node.next, lambda node: node.alive)
    back = _shortest(start, lambda node: start in node.next, _is_stuck)
    if back:
        return CYCLE, [*back, start]
    cycle = _cycle(start)
    if cycle:
        return CYCLE, cycle
    return ORPHAN, _shortest(start, lambda node: not node.next, _is_stuck)


def _is_stuck(node: _Node) -> bool:
    return not node.alive


def _shortest(start: _Node, found: Callable[[_Node], bool], through: Callable[[_Node], bool]) -> list[_Node]:
    """The shortest way from start to a node that is `found`, over nodes that `through` lets pass; [] if none."""
    came_from: dict[_Node, _Node | None] = {start: None}
    todo = deque([start])
    while todo:
        node: _Node | None = todo.popleft()
        if node is not None and found(node):
            path = []
            while node is not None:
                path.append(node)
                node = came_from[node]
            return path[::-1]
        for other in node.next if node is not None else ():
            if other not in came_from and through(other):
                came_from[other] = node
                todo.append(other)
    return []


def _cycle(start: _Node) -> list[_Node]:
    """A way over stuck nodes that comes back to one of its own, which is then last again; [] if there is none."""
    path: list[_Node] = [start]
    on_path = {start}
    done: set[_Node] = set()
    branches: list[Iterable[_Node]] = [iter(start.next)]
    while path:
        for other in branches[-1]:
            if other in on_path:
                return [*path, other]
            if not other.alive and other not in done:
                path.append(other)
                on_path.add(other)
                branches.append(iter(other.next))
                break
        else:
            branches.pop()
            leaf = path.pop()
            on_path.discard(leaf)
            done.add(leaf)
    return []


def _in_words(kind: str, path: list[_Node]) -> str:
    """Words for a path. Clauses: "a waits for lock 'x', held by b; b waits for ..."."""
    words = path[0].name
    for node, after in pairwise(path):
        if node.task is not None:
            words += f" waits for {after.phrase}"
        else:
            others = len(node.next) - 1
            words += f", {node.relation} {after.phrase if after.waitable is not None else after.name}"
            if others and after.task is not None:
                words += f" (and {others} more)"
            if after.task is not None and after.next and after is not path[-1]:
                words += f"; {after.name}"
    last = path[-1]
    if kind == CYCLE:
        closes = "" if last is path[0] else f" that closes at {last.phrase}"
        words += f": a cycle{closes}"
    elif kind == ORPHAN:
        if last.waitable is not None:
            words += ", which nobody can end"
        elif last.task is not None:
            words += f", which {last.end}"
        words += ": an orphan"
    elif last.task is not None:
        words += f", which {last.end}"
    return words
