"""The asyncio clients that `bench.commands` and `bench.fanout` compare: redis.asyncio, and valkey-glide where it is.

Role: the same commands as `bench.clients`, from 12 tasks of one event loop instead of 12 threads. redis.asyncio has a
pool of 13 connections, of which a command has one to itself; a client of valkey-glide shares its one connection among
all callers, and does its work in threads of its own that are not Python's. Every reply is looked at.

Thread: an event loop's own, `LoopThread`; whoever asks for a measurement blocks. Upstream: none. Left out: their
cluster clients, uvloop, pipelines of valkey-glide.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import redis.asyncio

from bench.clients import CONNS, KEY, VALUE, WORKERS, NotHere, WrongReply
from coordemu.runtime.base import Address

try:
    import glide
except ImportError:
    glide = None

REPLY = VALUE.encode()
START_TIMEOUT_S = 10
T = TypeVar("T")
# What one task does in a turn: it returns how many commands that was.
Turn = Callable[[], Awaitable[int]]


class LoopThread:
    """An event loop on a thread of its own, which sleeps in its poll while nobody asks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asyncio", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Have the loop do it. Returns or raises what it does; TimeoutError. Blocks."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def rate(self, seconds: float, turn: Turn, tasks: int = WORKERS) -> float:
        """That many tasks take turns until the time is over. Returns commands per second. Raises what a turn does."""
        return self.call(_rate(seconds, turn, tasks))

    def close(self) -> None:
        """End the thread. Idempotent."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _rate(seconds: float, turn: Turn, tasks: int) -> float:
    ended = False

    async def task() -> int:
        count = 0
        while not ended:
            count += await turn()
        return count

    async def clock() -> None:
        nonlocal ended
        await asyncio.sleep(seconds)
        ended = True

    began = time.perf_counter()
    try:
        # A group: when one task raises, the others are cancelled and waited for.
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(task()) for _ in range(tasks)]
            group.create_task(clock())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return sum(each.result() for each in running) / (time.perf_counter() - began)


def _check(replies: list[Any], who: str) -> int:
    """How many there are. Raises WrongReply."""
    for reply in replies:
        if reply != REPLY:
            raise WrongReply(f"{who}: {reply!r}")
    return len(replies)


class RedisAsyncio:
    """redis.asyncio with a pool of 13 connections, for whose turn commands wait."""

    def __init__(self, address: Address) -> None:
        self._thread = LoopThread()
        make: Any = redis.asyncio.BlockingConnectionPool
        self._pool = make(max_connections=CONNS, timeout=None, host=address.host, port=address.port)
        self._client: Any = redis.asyncio.Redis(connection_pool=self._pool)

    def close(self) -> None:
        """Close the connections, end the thread."""

        async def close() -> None:
            await self._client.aclose()
            await self._pool.aclose()

        self._thread.call(close(), START_TIMEOUT_S)
        self._thread.close()

    def blocking(self, seconds: float) -> float:
        """12 tasks, one GET at a time each."""
        get = self._client.get

        async def turn() -> int:
            return _check([await get(KEY)], "redis.asyncio")

        return self._thread.rate(seconds, turn)

    def gathering(self, seconds: float) -> float:
        """12 tasks, 13 GET at once each; a connection of the pool for each, so that some wait for one."""
        get = self._client.get

        async def turn() -> int:
            return _check(await asyncio.gather(*[get(KEY) for _ in range(CONNS)]), "redis.asyncio")

        return self._thread.rate(seconds, turn)


class ValkeyGlide:
    """valkey-glide: `clients` clients, each with one connection that all callers share."""

    def __init__(self, address: Address, clients: int) -> None:
        """Connect. Raises NotHere without the package, and for a server that it can't work with."""
        if glide is None:
            raise NotHere("not installed (pip install -e '.[bench]')")
        self.version = importlib.metadata.version("valkey-glide")
        self._clients: list[Any] = []
        config = glide.GlideClientConfiguration([glide.NodeAddress(address.host, address.port)])

        async def connect() -> None:
            for _ in range(clients):
                self._clients.append(await glide.GlideClient.create(config))

        self._thread = LoopThread()
        try:
            self._thread.call(connect(), START_TIMEOUT_S)
        except (glide.GlideError, TimeoutError) as err:
            self.close()
            raise NotHere(f"it cannot connect: {err}".split("\n")[0]) from err

    def close(self) -> None:
        """Close the connections, end the thread."""

        async def close() -> None:
            for client in self._clients:
                await client.close()

        self._thread.call(close(), START_TIMEOUT_S)
        self._thread.close()

    def blocking(self, seconds: float) -> float:
        """12 tasks, one GET at a time each, all on the first client."""
        get = self._clients[0].get

        async def turn() -> int:
            return _check([await get(KEY)], "valkey-glide")

        return self._thread.rate(seconds, turn)

    def gathering(self, seconds: float) -> float:
        """12 tasks, each sends a GET on every client and waits for all replies."""
        gets = [client.get for client in self._clients]

        async def turn() -> int:
            return _check(await asyncio.gather(*[get(KEY) for get in gets]), "valkey-glide")

        return self._thread.rate(seconds, turn)
