"""PingProber: asks the host PING on a connection of its own, for as long as a run lasts, and times the answers.

Role: the incident's symptom, measured. "The shard is frozen" means: the longest gap between two answered PINGs.
Thread: its own task, "prober"; the readings are plain attributes that any thread may look at.
Upstream: a health check. Left out: reconnecting.
"""

from __future__ import annotations

from collections import deque

from coordemu.lab.resp_stream import RespStream
from coordemu.lab.result import PingSums
from coordemu.runtime.base import NS_PER_MS, Address, Runtime

ANSWERS_KEPT = 65_536


class PingProber:
    """Sends a PING interval_ms after the last answer. Start, mark, read, stop."""

    def __init__(self, rt: Runtime, address: Address, interval_ms: int) -> None:
        """interval_ms: 1 or more."""
        self._rt = rt
        self._interval_ns = interval_ms * NS_PER_MS
        self._loop = rt.loop("prober")
        self._timer = self._loop.timer(self._send, "next PING")
        self._stream = RespStream(self._loop, address, self._answered, self._ended, self._send)
        self._sent = 0
        self._answers = 0
        self._last_ns = rt.now_ns()
        self._max_gap_ns = 0
        self._max_gap_before_ns = 0
        self.answers_ns: deque[int] = deque(maxlen=ANSWERS_KEPT)
        self.error = ""
        self._task = rt.spawn(self._loop.run, name="prober")

    def _send(self) -> None:
        if not self.error:
            self._sent += 1
            self._stream.send(["PING"])

    def _answered(self, reply: object) -> None:
        now_ns = self._rt.now_ns()
        self._max_gap_ns = max(self._max_gap_ns, now_ns - self._last_ns)
        self._last_ns = now_ns
        self._answers += 1
        self.answers_ns.append(now_ns)
        self._timer.start(self._interval_ns)

    def _ended(self, reason: str) -> None:
        self.error = reason

    @property
    def answered(self) -> int:
        """PINGs answered so far."""
        return self._answers

    def gap_now_ns(self) -> int:
        """Time since the last answer. Thread: any."""
        return self._rt.now_ns() - self._last_ns

    def mark(self) -> None:
        """The first CONFIG SET is about to be sent: what was measured so far is "before". Thread: any."""
        self._max_gap_before_ns, self._max_gap_ns = self._max_gap_ns, 0

    def first_answer_after(self, at_ns: int) -> int | None:
        """When the first PING after at_ns was answered. Thread: any, best after `stop`."""
        return next((stamp for stamp in tuple(self.answers_ns) if stamp >= at_ns), None)

    def sums(self) -> PingSums:
        """What was seen so far, an open gap included. Thread: any."""
        answered = self._answers  # read first, so that it is never above what was sent
        gap_ns = max(self._max_gap_ns, self.gap_now_ns())
        return PingSums(self._sent, answered, gap_ns / NS_PER_MS, self._max_gap_before_ns / NS_PER_MS)

    def stop(self) -> None:
        """End the task and close the connection. Thread: any but its own. Blocks shortly."""
        self._loop.stop()
        self._task.join()
        self._loop.close()
