"""The limit of open files is raised to what is allowed, and never lowered."""

from __future__ import annotations

import resource

import pytest

from coordemu.shards.fd_limit import raise_fd_limit


@pytest.fixture
def limits() -> object:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_to_the_hard_one(limits: tuple[int, int]) -> None:
    hard = limits[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    assert raise_fd_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert raise_fd_limit() == hard


def test_a_limit_that_cannot_be_raised_stays(limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (100, resource.RLIM_INFINITY))
        patch.setattr(resource, "setrlimit", refuse)
        assert raise_fd_limit() == 100
