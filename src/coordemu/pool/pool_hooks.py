"""PoolHook and PoolHookManager: what others want to know of a pool's connections, and may say about them.

Role: a hook sees each connection that is handed out, given back and removed; it may refuse the first, and have the
second removed or taken for a worker of its own (`PooledConn.claim`). Hooks run in the order in which they were added,
outside of all locks, on the tuple that was current when the call began.

Thread: the caller's (of get, put, or whoever removes). Upstream: PoolHook and PoolHookManager (internal/pool/hooks.go),
whose removal changes the order of those that stay; here it does not. Left out: nothing. Bound: none, as upstream's.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from coordemu.pool.pooled_conn import PooledConn
from coordemu.runtime.base import Runtime


class PutVerdict(NamedTuple):
    """What a hook says of a connection that is given back. should_pool: False, and it is removed after all hooks were
    asked.  should_remove: True, and it is removed at once."""

    should_pool: bool = True
    should_remove: bool = False


POOL_IT = PutVerdict()


class PoolHook(Protocol):
    """A hook. Thread: the caller's, outside of all locks of the pool."""

    def on_get(self, conn: PooledConn, is_new: bool) -> bool:
        """Whether the caller may have it. False: it is listed again (a fresh one: closed). Raising: it is closed."""
        ...

    def on_put(self, conn: PooledConn) -> PutVerdict:
        """What becomes of it. Raising: it is removed."""
        ...

    def on_remove(self, conn: PooledConn, reason: str) -> None:
        """It has left the pool, for this reason; called once per connection. What it raises is logged."""
        ...


class PlainHook:
    """A hook that lets everything pass; to derive from."""

    def on_get(self, conn: PooledConn, is_new: bool) -> bool:
        """Accept."""
        return True

    def on_put(self, conn: PooledConn) -> PutVerdict:
        """Pool it."""
        return POOL_IT

    def on_remove(self, conn: PooledConn, reason: str) -> None:
        """Nothing."""


class PoolHookManager:
    """The hooks of one pool. name: for its lock."""

    def __init__(self, rt: Runtime, name: str) -> None:
        self._lock = rt.lock(f"{name} hooks")
        self._hooks: tuple[PoolHook, ...] = ()

    def add(self, hook: PoolHook) -> None:
        """Append a hook. Thread: any. Upstream: AddHook."""
        with self._lock:
            self._hooks = (*self._hooks, hook)

    def remove(self, hook: PoolHook) -> bool:
        """Take a hook out. False: it was not there. Calls under way still reach it. Thread: any. Upstream:
        RemoveHook."""
        with self._lock:
            left = tuple(each for each in self._hooks if each is not hook)
            changed = len(left) != len(self._hooks)
            self._hooks = left
        return changed

    def __len__(self) -> int:
        return len(self._hooks)

    def on_get(self, conn: PooledConn, is_new: bool) -> bool:
        """Ask each until one refuses. Raises what a hook raises. Upstream: ProcessOnGet."""
        return all(hook.on_get(conn, is_new) for hook in self._hooks)

    def on_put(self, conn: PooledConn) -> PutVerdict:
        """Ask each, until one wants it removed. Raises what a hook raises. Upstream: ProcessOnPut."""
        should_pool = True
        for hook in self._hooks:
            verdict = hook.on_put(conn)
            if verdict.should_remove:
                return PutVerdict(False, True)
            should_pool = should_pool and verdict.should_pool
        return PutVerdict(should_pool, False)

    def on_remove(self, conn: PooledConn, reason: str) -> list[Exception]:
        """Tell each; what they raised. Upstream: ProcessOnRemove."""
        errors = []
        for hook in self._hooks:
            try:
                hook.on_remove(conn, reason)
            except Exception as error:
                errors.append(error)
        return errors

    def __repr__(self) -> str:
        return f"<PoolHookManager {len(self._hooks)} hooks>"
