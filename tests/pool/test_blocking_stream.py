"""What holds for every connection that its caller turns, whatever it speaks: no descriptor, closing, two callers."""

from __future__ import annotations

import errno
from contextlib import contextmanager

import pytest

from coordemu.lab.http_client import HttpConn
from coordemu.pool.blocking_stream import BlockingStream
from coordemu.pool.pool_conn import PoolConn
from coordemu.runtime.base import NS_PER_S, Address


@pytest.fixture(params=[PoolConn, HttpConn])
def kind(request) -> type[BlockingStream]:
    """Each that there is."""
    return request.param


class Silent:
    """A peer that takes what comes."""

    def on_connect(self):
        pass

    def on_data(self, data):
        pass

    def on_close(self, reason):
        pass


@contextmanager
def connected(rt, kind):
    """One, to a listener whose peers say nothing, in a task of its own."""
    loop = rt.loop("silent")
    listener = loop.listen(Address(), lambda transport: Silent())
    task = rt.spawn(loop.run, name="silent")
    conn = kind(rt, listener.address, 20 * NS_PER_S)
    yield conn
    conn.close()
    loop.stop()
    task.join()
    loop.close()


def test_without_a_descriptor_the_error_is_the_systems(rt, kind, monkeypatch):
    def full(*args):
        raise OSError(errno.EMFILE, "Too many open files")

    loop = rt.loop("another")
    monkeypatch.setattr(type(loop), "connect", full)
    loop.close()
    with pytest.raises(OSError, match="Too many open files"):
        kind(rt, Address(port=1), NS_PER_S)


def test_a_closed_one_is_of_no_use(rt, kind):
    with connected(rt, kind) as conn:
        assert conn.healthy()
        assert not conn.failed
        assert "idle" in repr(conn)
        conn.close()
        conn.close()
        assert conn.failed
        assert not conn.healthy()
        assert "closed" in repr(conn)


def test_two_at_once_are_told_so(rt, kind):
    with connected(rt, kind) as conn:
        conn._begin()
        with pytest.raises(RuntimeError, match="used by two at once"):
            conn.healthy()
        conn._finish()
        assert conn.healthy()
