"""BatchingClient: a cluster client whose callers share pipelines: commands for one node leave together.

Role: many callers that send one command each cost a connection hand-over and two system calls per command. Here who
comes while others of the same node are under way stands in a queue; the one at its head then sends up to `batch`
commands of the queue in one pipeline, and gives every caller its reply. The more callers there are, the larger the
batches; alone, a command goes as it would without this.

Who sends is one of the callers (a leader), never a task of its own, and sends one batch, in which its own command is
the first; then the next head of the queue leads. So while a queue has commands its node has all its leaders, and no
caller works for others longer than for itself.

What a batch's connection fails with, each of its callers has as its own error, by the rules of `ClusterClient`: a batch
in which some command writes is not sent twice once it was sent.

Thread: any number of callers. May block. Upstream: none; its pipelines are made by one caller (an automatic one was
being worked on). Left out: contexts (a caller cannot leave a batch that is under way), and commands that block in the
server, which would hold up those behind them: these belong to `ClusterClient.execute`. Bound of a queue: its callers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from coordemu.pool.cluster_client import ClusterClient
from coordemu.pool.pool_conn import Command
from coordemu.pool.pool_errors import PoolError
from coordemu.pool.slot_map import SLOTS, slot_of
from coordemu.runtime.base import Event, Holder, Runtime

# The stub of hiredis allows a command of one word only.
_pack: Callable[[Any], bytes] = hiredis.pack_command
_NOT_YET = object()


def _owed_by() -> Sequence[Holder]:
    return ["the leader of the batch before"]


class BatchBroken(PoolError):
    """The leader of the batch ended by an error of its own; nobody knows what became of the commands."""


class _Request:
    """A command and its caller. leads: its caller is to send; it is in no queue then."""

    __slots__ = ("command", "event", "leads", "reply")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.event: Event | None = None
        self.leads = False
        self.reply: Any = _NOT_YET


class _Lane:
    """The queue of one share of the slots."""

    __slots__ = ("leaders", "queue")

    def __init__(self) -> None:
        self.queue: deque[_Request] = deque()
        self.leaders = 0


class BatchingClient:
    """Shares pipelines over `client`, which stays the caller's to close. batch: commands of one pipeline at most, 1 or
    more.  leaders: pipelines under way at once per lane, 1 or more.  lanes: queues that the slots are shared out over,
    1 or more; as many as there are nodes, so that each pipeline is for one. Raises ValueError outside the bounds."""

    def __init__(self, rt: Runtime, client: ClusterClient, lanes: int, batch: int = 64, leaders: int = 1) -> None:
        if min(lanes, batch, leaders) < 1:
            raise ValueError(f"{lanes} lanes, batches of {batch}, {leaders} leaders: each is 1 or more")
        self._rt = rt
        self._client = client
        self._batch = batch
        self._leaders = leaders
        self._lock = rt.lock("batches")
        self._lanes = [_Lane() for _ in range(lanes)]
        self._batches = 0
        self._commands = 0
        self._longest = 0

    def execute(self, *command: str | bytes | int) -> Any:
        """One command; its reply. Raises as `ClusterClient.execute`, and BatchBroken; TypeError and ValueError for what
        is no command, before anything is sent. Thread: any. Blocks."""
        if not command:
            raise ValueError("a command has one word at least")
        _pack(command)  # what cannot be packed is its caller's error, and not that of the batch it would be in
        request = _Request(command)
        lane = self._lane_of(command)
        with self._lock:
            request.leads = lane.leaders < self._leaders
            if request.leads:
                lane.leaders += 1
            else:
                request.event = self._rt.event("a batch", owed_by=_owed_by)
                lane.queue.append(request)
        if request.event is not None:
            self._wait(lane, request, request.event)
        if request.leads:
            self._lead(lane, request)
        reply = request.reply
        if isinstance(reply, (hiredis.ReplyError, PoolError)):
            raise reply
        return reply

    def _wait(self, lane: _Lane, request: _Request, event: Event) -> None:
        """For the reply, or to lead. Who is torn out of it (Ctrl-C) must not be waited for."""
        served = False
        try:
            event.wait()
            served = True
        finally:
            if not served:
                self._abandon(lane, request)

    def _abandon(self, lane: _Lane, request: _Request) -> None:
        with self._lock:
            head: _Request | None = None
            if request in lane.queue:
                lane.queue.remove(request)
            elif request.leads:
                head = self._next_leader_locked(lane)
        if head is not None and head.event is not None:
            head.event.set()

    def _lane_of(self, command: Command) -> _Lane:
        key = command[1] if len(command) > 1 else b""
        slot = slot_of(key if isinstance(key, bytes) else str(key).encode())
        return self._lanes[slot * len(self._lanes) // SLOTS]

    def _lead(self, lane: _Lane, own: _Request) -> None:
        """Send a batch; whoever is at the head of the queue then leads the next."""
        with self._lock:
            count = min(self._batch - 1, len(lane.queue))
            taken = [own, *(lane.queue.popleft() for _ in range(count))]
            self._batches += 1
            self._commands += len(taken)
            self._longest = max(self._longest, len(taken))
        replies: Sequence[Any] = ()
        try:
            replies = self._client.pipeline([request.command for request in taken])
        finally:
            with self._lock:
                head = self._next_leader_locked(lane)
            # First who leads: the server can work while the others are told.
            if head is not None and head.event is not None:
                head.event.set()
            for index, request in enumerate(taken):
                request.reply = replies[index] if replies else BatchBroken("the leader of this batch has failed")
                if request.event is not None and request is not own:
                    request.event.set()

    def _next_leader_locked(self, lane: _Lane) -> _Request | None:
        """Take the head of the queue out of it to lead; None, and one leader less, when nobody waits."""
        if not lane.queue:
            lane.leaders -= 1
            return None
        head = lane.queue.popleft()
        head.leads = True
        return head

    def statistics(self) -> dict[str, int]:
        """batches, commands, longest (batch), waiting. Thread: any."""
        with self._lock:
            return {
                "batches": self._batches,
                "commands": self._commands,
                "longest": self._longest,
                "waiting": sum(len(lane.queue) for lane in self._lanes),
            }

    def __repr__(self) -> str:
        return f"<BatchingClient {self._batches} batches, {self._commands} commands>"
