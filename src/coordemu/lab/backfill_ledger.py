"""BackfillLedger: the laboratory's notebook of what happened to each message, and the account at the end.

Role: the system under test has its own truth, the store; the ledger writes down what was seen on the way, so that at
the end every message can be named: done, dead-lettered with its reason, lost (with where and why), or left where it was
last seen. `settle` puts the two together and says which rule of conservation does not hold, if any:

* every message that was planned has exactly one place in the account, by the way it is made, and nothing was taken or
  stored that nobody planned;
* what is done has the content that belongs to it;
* a dead letter has a reason;
* with work that survives, nothing is lost; when the run came to its end, nothing is left.

A loss that is noted is what a worker or producer believed at the time; when the message turns out to have an outcome
all the same (a reply was lost, not the message), the outcome stands, and the loss is a false alarm, counted.

Thread: any; a note is a few stores under a lock. Upstream: none. Left out: the system's own state, which it must never
be asked for. Bound: an entry per message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coordemu.lab.backfill_store import Outcome
from coordemu.runtime.base import Runtime

EXAMPLES = 10


def content_of(message: int) -> bytes:
    """What the Hub has for a message, and the store must hold."""
    return b"content of %d" % message


@dataclass(slots=True)
class _Page:
    """What was seen of one message."""

    put_ns: int = -1
    puts: int = 0
    deliveries: int = 0
    last: str = "never put"
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Where every message is.

    planned: how many there were.  done: rows.  dead, lost, left: by message: the reason, or where it was last seen.
    broken: rules that do not hold.  duplicates: second outcomes that were absorbed.  again: deliveries after the first
    one.  false_alarms: losses that were none.  longest_ns: from the first put until the row, at most.
    """

    planned: int
    done: int
    dead: Mapping[int, str] = field(default_factory=dict)
    lost: Mapping[int, str] = field(default_factory=dict)
    left: Mapping[int, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    duplicates: int = 0
    again: int = 0
    false_alarms: int = 0
    longest_ns: int = 0
    median_ns: int = 0

    @property
    def conserved(self) -> bool:
        """Whether no rule is broken."""
        return not self.broken

    def reasons(self, which: Mapping[int, str]) -> list[tuple[str, int]]:
        """Of the dead, lost or left ones: how many by reason, the most frequent first."""
        return sorted(Counter(which.values()).items(), key=lambda each: (-each[1], each[0]))

    def sentence(self) -> str:
        """The sum, as one line."""
        parts = [f"{self.done} done", f"{len(self.dead)} dead-lettered"]
        parts += [f"{len(which)} {word}" for word, which in (("lost", self.lost), ("left", self.left)) if which]
        return f"{self.planned} messages = {' + '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """All of it; the lost, dead and left ones one by one."""
        named = {
            word: {str(message): why for message, why in sorted(which.items())}
            for word, which in (("dead", self.dead), ("lost", self.lost), ("left", self.left))
        }
        return {
            "planned": self.planned, "done": self.done, **named, "broken": list(self.broken),
            "duplicates_absorbed": self.duplicates, "delivered_again": self.again, "false_alarms": self.false_alarms,
            "longest_ms": self.longest_ns / 1e6, "median_ms": self.median_ns / 1e6,
        }  # fmt: skip


class BackfillLedger:
    """An empty one. planned: messages 0 to planned - 1; 1 or more, ValueError otherwise."""

    def __init__(self, rt: Runtime, planned: int) -> None:
        if planned < 1:
            raise ValueError(f"ledger: {planned} messages")
        self.planned = planned
        self._rt = rt
        self._lock = rt.lock("ledger")
        self._pages = [_Page() for _ in range(planned)]
        self._noted_lost = 0
        self._in_hand = 0
        self._deliveries = 0
        self._put = 0
        self._strangers: list[str] = []

    # -- notes

    def put(self, message: int) -> None:
        """The queue has it, as its server said. Thread: any."""
        with self._lock:
            page = self._page_locked(message, "put")
            if page is None:
                return
            if page.put_ns < 0:
                page.put_ns = self._rt.now_ns()
                self._put += 1
            page.puts += 1
            page.last = "put"

    def taken(self, message: int, by: str) -> None:
        """A worker has it in hand. Thread: any."""
        with self._lock:
            page = self._page_locked(message, f"taken by {by}")
            if page is None:
                return
            page.deliveries += 1
            page.last = f"taken by {by}"
            self._in_hand += 1
            self._deliveries += 1

    def let_go(self, message: int, how: str) -> None:
        """The worker that had it has it no more. how: where it went, in words. Thread: any."""
        with self._lock:
            page = self._page_locked(message, how)
            if page is None:
                return
            page.last = how
            self._in_hand -= 1

    def lost(self, message: int, why: str) -> None:
        """Nobody will see to it any more: the loss that a fragile form says nothing of. Thread: any."""
        with self._lock:
            page = self._page_locked(message, why)
            if page is None:
                return
            if not page.lost:
                self._noted_lost += 1
            page.lost = page.last = why

    def _page_locked(self, message: int, what: str) -> _Page | None:
        if 0 <= message < self.planned:
            return self._pages[message]
        self._strangers.append(f"message {message} ({what})")
        return None

    # -- looks

    @property
    def in_hand(self) -> int:
        """Messages that workers have. Thread: any."""
        return self._in_hand

    @property
    def noted_lost(self) -> int:
        """Losses noted so far. Thread: any."""
        return self._noted_lost

    @property
    def deliveries(self) -> int:
        """So far. Thread: any."""
        return self._deliveries

    @property
    def put_so_far(self) -> int:
        """Messages that were put at least once. Thread: any."""
        return self._put

    def is_lost(self, message: int) -> bool:
        """Whether a loss was noted. Thread: any."""
        return bool(self._pages[message].lost)

    # -- the account

    def settle(
        self,
        outcomes: Mapping[int, Outcome],
        survives: bool,
        ended: bool,
        duplicates: int = 0,
        content: Callable[[int], bytes] = content_of,
    ) -> Account:
        """The account. outcomes: the store's.  survives: whether work was to survive.  ended: whether the run came to
        its end by itself, so that nothing may be left: what has no place then is lost. Thread: any."""
        dead: dict[int, str] = {}
        lost: dict[int, str] = {}
        left: dict[int, str] = {}
        latencies: list[int] = []
        broken: list[str] = []
        done = false_alarms = again = 0
        with self._lock:
            for message, page in enumerate(self._pages):
                outcome = outcomes.get(message)
                again += max(0, page.deliveries - 1)
                false_alarms += bool(page.lost and outcome is not None)
                if outcome is None:
                    if page.lost:
                        lost[message] = page.lost
                    elif ended:
                        lost[message] = f"unseen, and in no queue; last {page.last}"
                    else:
                        left[message] = page.last
                elif outcome.reason:
                    dead[message] = outcome.reason
                else:
                    done += 1
                    latencies.append(max(0, outcome.at_ns - page.put_ns) if page.put_ns >= 0 else 0)
                    if outcome.content != content(message):
                        broken.append(f"message {message} was stored with the content {outcome.content[:40]!r}")
            strangers = list(self._strangers)
        strangers += [f"message {message} (stored)" for message in outcomes if not 0 <= message < self.planned]
        if strangers:
            broken.append(f"{len(strangers)} messages that nobody planned: {', '.join(strangers[:EXAMPLES])}")
        if survives and lost:
            broken.append(f"{len(lost)} messages were lost: {_examples(lost)}")
        latencies.sort()
        return Account(
            self.planned, done, dead, lost, left, tuple(broken), duplicates, again, false_alarms,
            latencies[-1] if latencies else 0, latencies[len(latencies) // 2] if latencies else 0,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<BackfillLedger {self.planned} planned, {self._put} put, {self._in_hand} in hand>"


def _examples(which: Mapping[int, str]) -> str:
    shown = [f"{message} ({why})" for message, why in sorted(which.items())[:EXAMPLES]]
    return ", ".join(shown) + (", ..." if len(which) > EXAMPLES else "")
