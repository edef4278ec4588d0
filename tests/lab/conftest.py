"""A host whose answers the test chooses, and a runtime whose clock the test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from coordemu.coord.host import BLOCKED, Host, HostClient, Reply
from coordemu.coord.query import QueryArgs
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime

OK = b"+OK\r\n"


class ChosenHost:
    """A host with FT.SEARCH, answered by `answer`, by default at once with OK; it keeps what it was asked."""

    def __init__(self, rt: ThreadsRuntime) -> None:
        self.rt = rt
        self.host = Host(rt, lambda level, line: None)
        self.asked: list[QueryArgs] = []
        self.blocked: list[HostClient] = []
        self.answer: Callable[[HostClient, QueryArgs], Reply] = lambda client, args: OK
        self.host.command("FT.SEARCH", self._search)

    def _search(self, client: HostClient, args: Sequence[bytes]) -> Reply:
        parsed = QueryArgs.parse(args)
        self.asked.append(parsed)
        return self.answer(client, parsed)

    def block(self, client: HostClient, args: QueryArgs) -> Reply:
        """An `answer`: none for now; `release` gives it."""
        self.blocked.append(client)
        return BLOCKED

    def release(self, count: int | None = None) -> None:
        """Answer those that were blocked, the oldest `count` of them."""
        for _ in range(len(self.blocked) if count is None else count):
            self.blocked.pop(0).unblock(OK)

    def hang_up(self) -> None:
        """End the host: every client is cut off."""
        assert self.host.stop(10 * NS_PER_S)


@pytest.fixture
def chosen_host(rt: ThreadsRuntime) -> Iterator[ChosenHost]:
    chosen = ChosenHost(rt)
    chosen.host.start()
    yield chosen
    chosen.hang_up()
    assert chosen.host.task is not None
    assert chosen.host.task.error is None


class HandClock(ThreadsRuntime):
    """A runtime on threads whose clock stands until the test moves it."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.at_ns = 1_000 * NS_PER_S

    def now_ns(self) -> int:
        return self.at_ns


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()
