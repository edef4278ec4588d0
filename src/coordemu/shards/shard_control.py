"""ShardControl: the control line of a shard process, and its tie to the process that started it.

Role: listens on a unix socket in a private directory and speaks RESP::

    START {"count": 3, "password": null, "faults": "none", "unix_dir": "",
        "removes_unix_dir": false, "addresses": []}
    STATS                    every shard's statistics, as JSON
    FAULT ALL|index plan     change the fault plan
    KILL index               close a shard's port, cut its connections
    RESTART index            listen again at the same port

The connection that said START is the lifeline: when it ends, for whatever reason, so does the process. A parent that
is killed closes it too, so no shard process outlives its parent. If no START comes within ten seconds, the process
ends as well.

Thread: the loop's. Upstream: none. Left out: a password (the directory's mode protects the socket).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import hiredis

from coordemu import resp_encode as resp
from coordemu.runtime.base import NS_PER_S, Address, Loop, Runtime, Transport
from coordemu.shards.embedded_host import EmbeddedHost
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.shard_errors import ShardUrlError

CONTROL_NAME = "control.sock"
LOG_NAME = "shard.log"
START_WITHIN_S = 10
_NOT_YET = object()


class ShardControl:
    """The control line's server. Hosts nothing until START.

    rt, loop: of the process.  address: the control socket's.  Raises OSError when it can't listen there.
    """

    def __init__(self, rt: Runtime, loop: Loop, address: Address) -> None:
        self.host: EmbeddedHost | None = None
        self.unix_dir_to_remove = ""  # when the process ends, if nothing is left in it
        self._rt = rt
        self._loop = loop
        self._lifeline: _ControlConnection | None = None
        self._listener = loop.listen(address, lambda transport: _ControlConnection(self, transport))
        self._no_parent = loop.timer(loop.stop, "no parent came")
        self._no_parent.start(START_WITHIN_S * NS_PER_S)
        self._verbs: dict[bytes, tuple[int, Callable[..., bytes]]] = {
            b"STATS": (0, self._stats),
            b"FAULT": (2, self._fault),
            b"KILL": (1, self._kill),
            b"RESTART": (1, self._restart),
        }

    def __repr__(self) -> str:
        return f"<ShardControl {self._listener.address} {self.host!r} lifeline={self._lifeline is not None}>"

    def statistics(self) -> dict[str, int]:
        """How many shards it hosts, and whether its parent is there."""
        return {
            "shards": 0 if self.host is None else len(self.host.shards),
            "lifeline": int(self._lifeline is not None),
        }

    def run_command(self, connection: _ControlConnection, command: list[bytes]) -> bytes:
        """Run one control command; returns the encoded reply.

        Raises nothing for a wrong one: that is an error reply.
        """
        verb, args = command[0].upper(), command[1:]
        try:
            if verb == b"START" and len(args) == 1:
                return self._start(connection, json.loads(args[0]))
            count, handler = self._verbs.get(verb, (-1, None))
            if handler is None or len(args) != count:
                return resp.error("ERR expected START json | STATS | FAULT index plan | KILL index | RESTART index")
            if self.host is None:
                return resp.error("ERR not started")
            return handler(self.host, *args)
        except (ValueError, KeyError, TypeError, OSError) as problem:
            return resp.error(f"ERR {problem}")

    def connection_ended(self, connection: _ControlConnection) -> None:
        """End the loop when this was the lifeline."""
        if connection is self._lifeline:
            self._loop.stop()

    def _start(self, connection: _ControlConnection, wanted: dict[str, Any]) -> bytes:
        if self.host is not None:
            return resp.error("ERR started already")
        self._lifeline = connection  # of a start that fails, too: its parent hangs up then
        self._no_parent.stop()
        host = EmbeddedHost(
            self._rt,
            self._loop,
            wanted["count"],
            faults=FaultPlan.parse(wanted["faults"]),
            password=wanted["password"],
            unix_dir=wanted["unix_dir"],
            addresses=[Address(*fields) for fields in wanted["addresses"]],
        )
        addresses = host.start()
        self.host = host
        self.unix_dir_to_remove = wanted["unix_dir"] if wanted["removes_unix_dir"] else ""
        return _json([[address.host, address.port, address.path] for address in addresses])

    def _stats(self, host: EmbeddedHost) -> bytes:
        return _json(host.statistics())

    def _fault(self, host: EmbeddedHost, index: bytes, plan: bytes) -> bytes:
        host.set_faults(FaultPlan.parse(plan.decode()), None if index.upper() == b"ALL" else _index(index))
        return resp.OK

    def _kill(self, host: EmbeddedHost, index: bytes) -> bytes:
        host.kill(_index(index))
        return resp.OK

    def _restart(self, host: EmbeddedHost, index: bytes) -> bytes:
        host.restart(_index(index))
        return resp.OK


class _ControlConnection:
    """One client of the control line."""

    def __init__(self, control: ShardControl, transport: Transport) -> None:
        self._control = control
        self._transport = transport
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)

    def on_connect(self) -> None:
        """Never called for an accepted transport."""

    def on_data(self, data: bytes) -> None:
        """Run what is complete."""
        try:
            self._reader.feed(data)
            while (command := self._reader.gets()) is not _NOT_YET:
                if not isinstance(command, list) or {*map(type, command)} != {bytes}:
                    raise hiredis.ProtocolError("not an array of bulk strings")
                self._transport.write(self._control.run_command(self, command))
        except hiredis.ProtocolError:
            self._transport.abort()
            self._control.connection_ended(self)

    def on_close(self, reason: str | None) -> None:
        """The client has gone."""
        self._control.connection_ended(self)


def _json(value: object) -> bytes:
    return resp.bulk(json.dumps(value).encode())


def _index(text: bytes) -> int:
    if not text.isdigit():
        raise ShardUrlError(f"{text.decode(errors='replace')!r} is not a shard's index")
    return int(text)
