"""ConnDialer: one dial of the pool: several attempts with a delay in between, and silence towards a dead address.

Role: calls the dialer value that the pool was given. An attempt has its own time-out; a delay follows each failed one
but the last. After as many failed dials as the pool has turns, nobody tries any more: callers get the last error at
once, and one prober tries from time to time until it succeeds.

Thread: the dial's task; the prober has one of its own. Upstream: dialConn and tryDial (internal/pool/pool.go).
Left out: TLS and proxies (they are inside the dialer value). Bounds: one prober per pool; `dialer_retries` attempts per
dial.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from coordemu.pool import pool_faults
from coordemu.pool.pool_context import PoolContext, pause
from coordemu.pool.pool_errors import DeadlineExceeded
from coordemu.pool.pool_options import PoolOptions
from coordemu.runtime.base import NS_PER_MS, Runtime

# Called with the attempt's time-out, ns, None: no limit. Returns the connection's resource, or raises.
Dial = Callable[[int | None], Any]
Log = Callable[[str, str], None]


class ConnDialer:
    """Dials for one pool. lifetime: ends when the pool closes; it ends delays, and the prober."""

    def __init__(
        self,
        rt: Runtime,
        dial: Dial,
        options: PoolOptions,
        lifetime: PoolContext,
        name: str,
        log: Log,
        faults: AbstractSet[str] = frozenset(),
    ) -> None:
        self.name = name
        self._rt = rt
        self._dial = dial
        self._options = options
        self._lifetime = lifetime
        self._log = log
        self._faults = faults
        self._lock = rt.lock(f"{name} dial errors")
        self._errors_in_row = 0
        self._last_error: Exception | None = None
        self._probing = False
        self._attempts = 0
        self._failed_dials = 0
        self._refused_dials = 0
        self._probes = 0

    def dial(self, ctx: PoolContext | None = None) -> Any:
        """Attempts until one succeeds. ctx: bounds them, None: the pool's lifetime.

        Raises what the last attempt raised; at once, when the address is known to be dead. Thread: any. Blocks.
        Upstream: dialConn.
        """
        with self._lock:
            dead = self._errors_in_row >= self._options.pool_size
            if dead and self._last_error is not None:
                self._refused_dials += 1
                raise self._last_error
        error: Exception | None = None
        began_ns = self._rt.now_ns()
        retries = self._options.dialer_retries
        made = 0
        for attempt in range(retries):
            timeout_ns = self._attempt_timeout_ns(ctx, began_ns)
            if timeout_ns is not None and timeout_ns <= 0:
                error = error or DeadlineExceeded(f"{self.name}: the caller's deadline has passed before a dial")
                break
            made += 1
            try:
                resource = self._dial(timeout_ns)
            except Exception as failed:
                error = failed
            else:
                self._succeeded(made)
                return resource
            delay_ns = self._options.retry_delay_ns(attempt, self._rt.random)
            if attempt + 1 < retries and not pause(self._rt, delay_ns, ctx or self._lifetime, "the next dial attempt"):
                break
        assert error is not None
        self._failed(error, made)
        raise error

    def _attempt_timeout_ns(self, ctx: PoolContext | None, began_ns: int) -> int | None:
        limits = []
        now_ns = self._rt.now_ns()
        if self._options.dial_timeout_ms:
            since_ns = now_ns
            if pool_faults.ONE_DIAL_TIMEOUT in self._faults:
                since_ns = began_ns
            limits.append(since_ns + self._options.dial_timeout_ms * NS_PER_MS - now_ns)
        if ctx is not None and ctx.deadline_ns is not None:
            limits.append(ctx.deadline_ns - now_ns)
        return min(limits) if limits else None

    def _succeeded(self, attempts: int) -> None:
        with self._lock:
            self._attempts += attempts
            self._errors_in_row = 0

    def _failed(self, error: Exception, attempts: int) -> None:
        with self._lock:
            self._attempts += attempts
            self._failed_dials += 1
            self._errors_in_row += 1
            self._last_error = error
            start = self._errors_in_row >= self._options.pool_size and not self._probing
            self._probing = self._probing or start
        self._log("warning", f"{self.name}: failed to dial after {attempts} attempts: {error}")
        if start:
            self._rt.spawn(self._probe, name=f"{self.name} prober")

    def _probe(self) -> None:
        """Until the address answers or the pool closes. Upstream: tryDial."""
        interval_ns = self._options.probe_interval_ms * NS_PER_MS
        timeout_ns = self._options.dial_timeout_ms * NS_PER_MS or None
        while self._lifetime.error() is None:
            try:
                resource = self._dial(timeout_ns)
            except Exception as error:
                with self._lock:
                    self._probes += 1
                    self._last_error = error
                if not pause(self._rt, interval_ns, self._lifetime, "the next probe"):
                    break
                continue
            with self._lock:
                self._probes += 1
                self._errors_in_row = 0
                self._probing = False
            resource.close()
            return
        with self._lock:
            self._probing = False

    def statistics(self) -> dict[str, int]:
        """Since the start: attempts, failed_dials, refused_dials (a dead address), probes; probing (0 or 1). Thread:
        any."""
        with self._lock:
            return {
                "attempts": self._attempts,
                "failed_dials": self._failed_dials,
                "refused_dials": self._refused_dials,
                "probes": self._probes,
                "probing": int(self._probing),
            }

    def __repr__(self) -> str:
        return f"<ConnDialer {self.name!r} {self._errors_in_row} errors in a row>"
