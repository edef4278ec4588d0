"""ShardSpec: which shards a run wants, as a value read from its text form; and whether they are there.

Role: what ``--shards`` takes. Either shards that the run starts itself, by number::

    embedded:3        three embedded shards in one process of their own, over TCP   (embedded-unix:3: over unix sockets)
    redis:3           three Redis servers of our own                                (redis-unix:3: over unix sockets)
    cluster:3         three Redis servers joined to a cluster

or shards that are there, by address::

    redis://[:password@]host:port[,host:port...]
    unix://[:password@]/path[,/path...]
    cluster://[:password@]host:port[,host:port...]      any node that knows the others

A password with special characters is percent-encoded. The port may be left out (6379).

`check_reachable` asks shards that should be there, before a run begins, in bounded time and with one clear line if
not: a coordinator reconnects for ever, as upstream does, so a wrong port or password would look like a run that hangs.
All addresses are asked at the same time over one loop (AUTH when there is a password, PING, and CLUSTER SLOTS for a
cluster); then a cluster's masters are.

Thread: any; a spec is frozen, a check blocks for the time that it is given. Upstream: the topology that
SEARCH.CLUSTERSET sets by hand, and the one read from the cluster; the topology validation timer checks at run time.
Left out: TLS, users other than the default one, database numbers, replicas, asking again; name resolution, which
blocks outside our time limit when no server knows the name.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import hiredis

from coordemu.runtime.base import NS_PER_MS, Address, Runtime
from coordemu.shards.embedded_host import MAX_SHARDS
from coordemu.shards.resp_client import RespClient, RespClientError, finish_all
from coordemu.shards.shard_errors import ShardError, ShardUrlError

CHECK_TIMEOUT_MS = 1_500
DEFAULT_PORT = 6379
MAX_OWN_REDIS = 64
FORMS = "embedded:N, redis:N, cluster:N, redis://[:password@]host:port,..., unix://[:password@]/path,... or cluster://host:port"
_OWN = re.compile(r"(embedded|redis|cluster)(-unix)?:(\d{1,9})")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """Which shards are wanted.

    kind: "embedded", "redis" or "cluster"; says which commands they understand.  count: how many, 1 or more (for a
    cluster by address: how many addresses were given or found).  addresses: of shards that are there; empty for those
    that we start. password: of all of them, None for none.  unix: whether ours listen on unix sockets.
    """

    kind: str
    count: int
    addresses: tuple[Address, ...] = ()
    password: str | None = None
    unix: bool = False

    @property
    def own(self) -> bool:
        """Whether we start them."""
        return not self.addresses

    def __str__(self) -> str:
        """The text form, with *** for a password."""
        if self.own:
            return f"{self.kind}{'-unix' if self.unix else ''}:{self.count}"
        secret = "" if self.password is None else ":***@"
        if self.addresses[0].path:
            return f"unix://{secret}{','.join(address.path for address in self.addresses)}"
        hosts = [f"[{a.host}]:{a.port}" if ":" in a.host else str(a) for a in self.addresses]
        return f"{self.kind}://{secret}{','.join(hosts)}"

    def __repr__(self) -> str:
        return f"<ShardSpec {self}>"


def parse_shard_url(text: str) -> ShardSpec:
    """Read the text form. Raises ShardUrlError, one line that says what is wrong and never shows a password.

    Thread: any.
    """
    own = _OWN.fullmatch(text)
    if own is not None:
        return _own_spec(own[1], int(own[3]), bool(own[2]))
    scheme, separator, rest = text.partition("://")
    if scheme in ("rediss", "valkeys"):
        raise ShardUrlError(f"shards: {scheme}:// needs TLS, which is left out")
    if not separator or scheme not in ("redis", "unix", "cluster"):
        raise ShardUrlError(f"shards: {_without_secret(text)!r} is none of {FORMS}")
    userinfo, at, hosts = rest.rpartition("@")
    password = _password(userinfo, scheme) if at else None
    if scheme == "unix":
        addresses = [_path(part) for part in hosts.split(",")]
    else:
        addresses = [_host(part, scheme) for part in hosts.removesuffix("/").split(",")]
    if len(addresses) > MAX_SHARDS:
        raise ShardUrlError(f"shards: {len(addresses)} addresses, {MAX_SHARDS} at most")
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            raise ShardUrlError(f"shards: {address} is given twice")
    return ShardSpec("redis" if scheme == "unix" else scheme, len(addresses), tuple(addresses), password)


def check_reachable(rt: Runtime, spec: ShardSpec, timeout_ms: float = CHECK_TIMEOUT_MS) -> ShardSpec:
    """Ask every shard whether it is there. Returns the spec, a cluster's with its masters as addresses, by slots.

    spec: one whose shards are ours to start is returned as it is.  timeout_ms: for everything together, more than 0.
    Raises ShardError with one line: refused, no answer, wrong or missing password, no RESP, not a cluster. Thread:
    any. May block.
    """
    if spec.own:
        return spec
    deadline_ns = rt.now_ns() + round(timeout_ms * NS_PER_MS)
    if spec.kind != "cluster":
        _raise_first(_ask_all(rt, spec.addresses, spec.password, timeout_ms, slots=False))
        return spec
    answers = _ask_all(rt, spec.addresses, spec.password, timeout_ms, slots=True)
    if all(isinstance(answer, ShardError) for answer in answers.values()):
        _raise_first(answers)
    masters = _masters(answers)
    left_ms = max(1.0, (deadline_ns - rt.now_ns()) / NS_PER_MS)
    _raise_first(_ask_all(rt, masters, spec.password, left_ms, slots=False))
    return replace(spec, addresses=masters, count=len(masters))


def _own_spec(kind: str, count: int, unix: bool) -> ShardSpec:
    most = MAX_SHARDS if kind == "embedded" else MAX_OWN_REDIS
    least = 3 if kind == "cluster" else 1
    if not least <= count <= most:
        raise ShardUrlError(f"shards: {kind}:{count} is not within {kind}:{least} and {kind}:{most}")
    if kind == "cluster" and unix:
        raise ShardUrlError("shards: a cluster's nodes find each other over TCP only")
    return ShardSpec(kind, count, unix=unix)


def _password(userinfo: str, scheme: str) -> str:
    user, colon, secret = userinfo.partition(":")
    if not colon or not secret:
        raise ShardUrlError(f"shards: expected {scheme}://:password@..., with a colon and a password before the @")
    if user not in ("", "default"):
        raise ShardUrlError(f"shards: user {user!r}: only the default user can be used")
    return unquote(secret)


def _host(part: str, scheme: str) -> Address:
    match = _HOST.fullmatch(part)
    if match is None:
        raise ShardUrlError(f"shards: {part!r} is not host:port, as in {scheme}://127.0.0.1:6379")
    port = DEFAULT_PORT if match[2] is None else int(match[2])
    if not 1 <= port <= 65535:
        raise ShardUrlError(f"shards: port {port} in {part!r} is not within 1..65535")
    return Address(match[1].strip("[]"), port)


def _path(part: str) -> Address:
    if not part.startswith("/") or "\0" in part:
        raise ShardUrlError(f"shards: {part!r} is not the full path of a unix socket, as in unix:///run/redis.sock")
    if len(part.encode()) > 107:
        raise ShardUrlError(f"shards: a unix socket's path has 107 bytes at most, this one {len(part.encode())}")
    return Address(path=part)


def _without_secret(text: str) -> str:
    return re.sub(r"(?<=[:/]).*@", "***@", text)


def _raise_first(answers: dict[Address, Any]) -> None:
    failures = [answer for answer in answers.values() if isinstance(answer, ShardError)]
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise ShardError(f"{failures[0]}{more}")


def _ask_all(
    rt: Runtime, addresses: tuple[Address, ...], password: str | None, timeout_ms: float, *, slots: bool
) -> dict[Address, Any]:
    """Each address' last reply, or the ShardError that says what is wrong with it."""
    commands: list[tuple[str, ...]] = [] if password is None else [("AUTH", password)]
    commands += [("PING",), ("CLUSTER", "SLOTS")] if slots else [("PING",)]
    answers: dict[Address, Any] = {}
    loop = rt.loop("check shards")
    try:
        clients = [RespClient(rt, address, loop) for address in addresses]
        for client in clients:
            with suppress(RespClientError):  # it keeps the error, for results
                client.begin(commands)
        finish_all(rt, clients, timeout_ms)
        for client in clients:
            try:
                answers[client.address] = _judge(client.address, password, client.results(timeout_ms), slots)
            except RespClientError as problem:
                answers[client.address] = ShardError(f"shard {client.address}: {problem}")
    finally:
        loop.close()  # and with it every connection
    return answers


def _judge(address: Address, password: str | None, replies: list[Any], slots: bool) -> Any:
    ping = replies[-2] if slots else replies[-1]
    wrong = ""
    if password is not None and isinstance(replies[0], hiredis.ReplyError):
        text = str(replies[0])
        if text.startswith("WRONGPASS") or "invalid password" in text:
            wrong = "wrong password (WRONGPASS)"
        elif "without any password" in text or "no password is set" in text:
            wrong = "a password was given, but the server has none"
        else:
            wrong = f"refused AUTH: {text}"
    elif isinstance(ping, hiredis.ReplyError):
        wrong = (
            "needs a password (NOAUTH)" if str(ping).startswith("NOAUTH") else f"answered PING with an error: {ping}"
        )
    elif ping != b"PONG":
        wrong = f"answered PING with {str(ping)[:64]}, so it is no Redis server"
    elif slots and isinstance(replies[-1], hiredis.ReplyError):
        wrong = f"is not a cluster ({str(replies[-1]).removeprefix('ERR ')})"
    elif slots and not replies[-1]:
        wrong = "its cluster has no slots assigned"
    return ShardError(f"shard {address}: {wrong}") if wrong else replies[-1]


def _masters(answers: dict[Address, Any]) -> tuple[Address, ...]:
    """The masters that the first good answer names, each once, by their first slot."""
    for asked, slots in answers.items():
        if isinstance(slots, ShardError):
            continue
        masters: dict[Address, None] = {}
        try:
            for _, _, (host, port, *_), *_ in sorted(slots, key=lambda entry: entry[0]):
                # A node that has not been told its own name gives none: the one we asked it by is right then.
                masters[Address((host or b"").decode() or asked.host, port)] = None
        except (ValueError, TypeError, AttributeError, LookupError):
            raise ShardError(f"shard {asked}: its answer to CLUSTER SLOTS makes no sense") from None
        return tuple(masters)
    return ()
