"""RelaxedTimeout: a longer time limit for replies while a server is known to be moving.

Role: a server that announces its move answers slowly until it is over. Its connections are relaxed meanwhile: the limit
of a caller is the longer of its own and the relaxed one. Several reasons may relax one connection; each that ends
restores once, and the last one brings the normal limit back. A relaxation also ends by itself, in case nobody restores
it.

Thread: any. Upstream: the relaxed timeouts of Conn (internal/pool/conn.go: SetRelaxedTimeout, ClearRelaxedTimeout).
Left out: a write limit of its own; what is sent here does not wait. Bound: a count and two numbers.
"""

from __future__ import annotations

from coordemu.runtime.base import Runtime


class RelaxedTimeout:
    """The relaxation of one connection; none at first."""

    def __init__(self, rt: Runtime, name: str) -> None:
        self.name = name
        self.count = 0
        self.timeout_ns = 0
        self._rt = rt
        self._until_ns = 0
        self._lock = rt.lock(f"{name} relaxed")

    def relax(self, timeout_ns: int, lasts_ns: int) -> None:
        """One more reason. timeout_ns: the limit; of several the longest.  lasts_ns: from now, unless it is restored
        before. Both 1 or more, ValueError otherwise. Thread: any."""
        if min(timeout_ns, lasts_ns) < 1:
            raise ValueError(f"{self.name}: relaxed to {timeout_ns} ns for {lasts_ns} ns")
        with self._lock:
            self.count += 1
            self.timeout_ns = max(self.timeout_ns, timeout_ns)
            self._until_ns = max(self._until_ns, self._rt.now_ns() + lasts_ns)

    def restore(self) -> bool:
        """One reason less. False: there was none. Thread: any. Upstream: ClearRelaxedTimeout."""
        with self._lock:
            if not self.count:
                return False
            self.count -= 1
            if not self.count:
                self.timeout_ns = self._until_ns = 0
            return True

    def clear(self) -> None:
        """No reason any more: the connection has a new socket. Thread: any."""
        with self._lock:
            self.count = self.timeout_ns = self._until_ns = 0

    def of(self, normal_ns: int | None) -> int | None:
        """The limit to use instead of this one; None: no limit. Thread: any. Never blocks."""
        if not self.count or normal_ns is None:
            return normal_ns
        with self._lock:
            if self._rt.now_ns() < self._until_ns:
                return max(normal_ns, self.timeout_ns)
            self.count = self.timeout_ns = self._until_ns = 0
        return normal_ns

    def __repr__(self) -> str:
        return f"<RelaxedTimeout {self.name!r} {self.count} reasons, {self.timeout_ns / 1e6:.0f} ms>"
