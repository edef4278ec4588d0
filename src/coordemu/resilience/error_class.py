"""Error classes: what an error means for who might try again, as a table with one line per kind of error.

Role: `classify` is what `Retry` and `Guard` ask about every error. There are three classes:

    RECOVERABLE    it may go well the next time: a broken connection, a failover, a 500.
    PERMANENT      it will not: a wrong command, a 404, the caller has cancelled. It is passed on as it is.
    BACK_PRESSURE  somebody says "not now": a full pool, an open breaker, a 429. Come again, later.

Beside the class a line has a delay, in two strengths. What the table *suggests* is a floor: the back-off may be longer.
What the other side *told* (Retry-After, a breaker's or a limiter's own time, if more than 0) wins over the back-off in
either direction. Two more things are said of each: whether it speaks against what was called (`counts`; a breaker
counts only such), and whether what was asked for may have been carried out all the same (`unanswered`; only what may be
done twice should be tried again then).

The table is looked through in this order: an HTTP status; an error reply of Redis, by its first word (of "ERR", by the
beginning of the text); an `OSError` by its number; the class of the error, then its bases, nearest first. What no line
knows is PERMANENT and counts: to try again what nobody understands does harm.

Thread: plain values, any; never blocks. Upstream: none; the write-up's "recoverable and permanent, with a suggested
delay each". Left out: other libraries' errors (pass a `classify` of your own that ends with this one); Retry-After as a
date, for which the runtime has no calendar.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

import hiredis

from coordemu.pool import pool_errors
from coordemu.pool.batching_client import BatchBroken
from coordemu.pool.command_route import ClusterError
from coordemu.pool.pool_errors import ConnFailed
from coordemu.pool.turns import NoTurn
from coordemu.resilience.resilience_errors import (
    BreakerOpen,
    BulkheadFull,
    PressureRefused,
    RateLimited,
    ResilienceError,
    RetriesExhausted,
    TimeLimited,
)
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, TransportClosed

LONGEST_RETRY_AFTER_S = 366 * 24 * 3600


class ErrorClass(Enum):
    """What an error means for who might try again."""

    RECOVERABLE = "recoverable"
    PERMANENT = "permanent"
    BACK_PRESSURE = "back-pressure"


@dataclass(frozen=True, slots=True)
class Classified:
    """What there is to say of one error.

    delay_ns: how long to wait at least, 0 or more; 0: nobody says.  why: in words.  told: the delay is the other side's
    own word, and not the table's.  counts: whether it speaks against what was called.  unanswered: whether what was
    asked for may have been carried out all the same.
    """

    error_class: ErrorClass
    delay_ns: int
    why: str
    told: bool = False
    counts: bool = True
    unanswered: bool = False

    @property
    def again(self) -> bool:
        """Whether to try again can help."""
        return self.error_class is not ErrorClass.PERMANENT


Classify = Callable[[BaseException], Classified]


class HttpStatusError(Exception):
    """An answer over HTTP whose status says that it was not done.

    status: 100 to 599, ValueError otherwise.  retry_after_ns: 0 or more, what the answer's Retry-After says; None: it
    has none.  reason: the words beside the status.
    """

    def __init__(self, status: int, retry_after_ns: int | None = None, reason: str = "") -> None:
        if not 100 <= status <= 599 or (retry_after_ns is not None and retry_after_ns < 0):
            raise ValueError(f"HTTP status {status}, retry_after_ns {retry_after_ns}")
        super().__init__(status, retry_after_ns, reason)
        self.status = status
        self.retry_after_ns = retry_after_ns
        self.reason = reason

    def __str__(self) -> str:
        after = "" if self.retry_after_ns is None else f", again in {self.retry_after_ns / 1e9:g} s"
        return f"HTTP {self.status} {self.reason}".rstrip() + after


def retry_after_ns(header: str | None) -> int | None:
    """What a Retry-After header says, in ns; None when there is none, or it is no number of seconds (a date is not
    read). A year at most. Thread: any."""
    text = (header or "").strip()
    if not text.isascii() or not text.isdigit():
        return None
    # A number of thousands of digits is not worth reading.
    seconds = LONGEST_RETRY_AFTER_S if len(text) > 12 else min(int(text), LONGEST_RETRY_AFTER_S)
    return seconds * NS_PER_S


# -- the table


def _again(delay_ms: int, why: str, counts: bool = True, unanswered: bool = False) -> Classified:
    return Classified(ErrorClass.RECOVERABLE, delay_ms * NS_PER_MS, why, False, counts, unanswered)


def _never(why: str, counts: bool = False, unanswered: bool = False) -> Classified:
    return Classified(ErrorClass.PERMANENT, 0, why, False, counts, unanswered)


def _later(delay_ms: int, why: str, counts: bool = False) -> Classified:
    return Classified(ErrorClass.BACK_PRESSURE, delay_ms * NS_PER_MS, why, False, counts)


# Error replies, by their first word. A server that answers is well, unless what it says is that it is not.
REDIS_REPLIES: Mapping[str, Classified] = MappingProxyType({
    "LOADING": _again(1_000, "the server reads its data set"),
    "MASTERDOWN": _again(1_000, "the replica has lost its master"),
    "NOMASTERLINK": _again(1_000, "the replica has lost its master"),
    "CLUSTERDOWN": _again(500, "some slots of the cluster have no node"),
    "READONLY": _again(100, "the node is a replica by now: a failover"),
    "UNBLOCKED": _again(100, "the blocking command was ended: a failover, or CLIENT UNBLOCK"),
    "NOREPLICAS": _again(1_000, "not enough replicas follow for a write"),
    "MISCONF": _again(5_000, "the server takes no writes since it cannot save"),
    "NOGOODSLAVE": _again(1_000, "no replica can be promoted yet"),
    "INPROG": _again(1_000, "a failover is under way"),
    "IOERR": _again(100, "the other node of a MIGRATE did not answer", unanswered=True),
    "TRYAGAIN": _again(50, "the slot's keys are being moved", counts=False),
    "MOVED": _again(0, "the slot is at another node", counts=False),
    "ASK": _again(0, "this one key is at another node", counts=False),
    "BUSY": _later(500, "the server runs a script", counts=True),
    "OOM": _later(1_000, "the server has no memory left for a write", counts=True),
    "NOAUTH": _never("no password was given"),
    "WRONGPASS": _never("the password is wrong"),
    "NOPERM": _never("the user may not do that"),
    "DENIED": _never("the server is in protected mode"),
    "WRONGTYPE": _never("the key holds another type"),
    "CROSSSLOT": _never("the keys are in several slots"),
    "NOSCRIPT": _never("the script is not loaded"),
    "NOTBUSY": _never("no script runs"),
    "UNKILLABLE": _never("the script has written already"),
    "NOGROUP": _never("the consumer group does not exist"),
    "BUSYGROUP": _never("the consumer group exists already"),
    "BUSYKEY": _never("the key exists already"),
    "EXECABORT": _never("a command of the transaction was refused"),
    "NOPROTO": _never("the server does not speak that protocol"),
    "ERR": _never("the command was refused"),
})  # fmt: skip

# Texts after "ERR" that are more than a refusal of the command, by their beginning.
REDIS_ERR_TEXTS: Mapping[str, Classified] = MappingProxyType({
    "max number of clients reached": _later(1_000, "the server has as many clients as it takes", counts=True),
})  # fmt: skip

# Errors of sockets and of names. Where a number may be that of an answer that never came, it is unanswered.
ERRNOS: Mapping[int, Classified] = MappingProxyType({
    errno.ECONNREFUSED: _again(100, "nobody listens there: a restart, perhaps"),
    errno.ENOENT: _again(100, "the unix socket is not there: a restart, perhaps"),
    errno.ECONNRESET: _again(0, "the peer reset the connection", unanswered=True),
    errno.ECONNABORTED: _again(0, "the connection was given up", unanswered=True),
    errno.EPIPE: _again(0, "the peer had closed the connection", unanswered=True),
    errno.ENOTCONN: _again(0, "the connection does not stand", unanswered=True),
    errno.ESHUTDOWN: _again(0, "the connection was shut", unanswered=True),
    errno.ETIMEDOUT: _again(0, "no answer in time", unanswered=True),
    errno.EHOSTUNREACH: _again(1_000, "no way to the host", unanswered=True),
    errno.EHOSTDOWN: _again(1_000, "the host is down", unanswered=True),
    errno.ENETUNREACH: _again(1_000, "no way to the network", unanswered=True),
    errno.ENETDOWN: _again(1_000, "the network is down", unanswered=True),
    errno.ENETRESET: _again(100, "the network dropped the connection", unanswered=True),
    errno.EINTR: _again(0, "a signal came in between", counts=False),
    errno.EAGAIN: _again(10, "the socket is not ready", counts=False),
    errno.EMFILE: _later(500, "this process has no descriptors left"),
    errno.ENFILE: _later(500, "this machine has no descriptors left"),
    errno.ENOBUFS: _later(500, "the kernel has no buffers left"),
    errno.ENOMEM: _later(500, "the kernel has no memory left"),
    errno.EADDRNOTAVAIL: _later(500, "no local port is left, or the address is not ours"),
    errno.EACCES: _never("permission denied"),
    errno.EPERM: _never("not permitted"),
    errno.EADDRINUSE: _never("the address is taken"),
    errno.EAFNOSUPPORT: _never("no such kind of address"),
    errno.EPROTONOSUPPORT: _never("no such protocol"),
    errno.EINVAL: _never("an argument makes no sense"),
    errno.EBADF: _never("the descriptor is closed"),
    errno.ENOTSOCK: _never("the descriptor is no socket"),
    # Of getaddrinfo (EAI_AGAIN, EAI_NONAME, EAI_FAIL), whose numbers are negative.
    -3: _again(1_000, "the name server did not answer"),
    -2: _never("the name does not exist", counts=True),
    -4: _never("the name server refused", counts=True),
})  # fmt: skip

# What a status means, where it has a line of its own, and by its hundred otherwise.
HTTP_STATUSES: Mapping[int, Classified] = MappingProxyType({
    408: _again(0, "the server tired of waiting for the request"),
    425: _again(100, "too early for a request that might be a repetition", counts=False),
    429: _later(1_000, "too many requests"),
    501: _never("the server cannot do that"),
    503: _later(1_000, "the service is not available", counts=True),
    505: _never("the server does not speak that version"),
})  # fmt: skip
HTTP_HUNDREDS: Mapping[int, Classified] = MappingProxyType({
    1: _never("an answer that is none"),
    2: _never("it was done"),
    3: _never("it is elsewhere"),
    4: _never("the request was refused"),
    5: _again(0, "the server failed", unanswered=True),
})  # fmt: skip

# By class of error; the nearest base that has a line decides.
ERRORS: Mapping[type[BaseException], Classified] = MappingProxyType({
    # this layer's refusals: nothing was called
    BreakerOpen: _later(0, "the breaker is open"),
    RateLimited: _later(0, "the rate is used up"),
    BulkheadFull: _later(0, "no slot was free in time"),
    PressureRefused: _later(0, "the pool is under pressure, and the work can wait"),
    TimeLimited: _again(0, "the attempt's time was over", unanswered=True),
    RetriesExhausted: _never("it was tried again already", counts=True, unanswered=True),
    ResilienceError: _never("a refusal that has no line", counts=True),
    # the pool's
    pool_errors.PoolTimeout: _later(0, "the pool had no turn in time"),
    pool_errors.PoolExhausted: _later(50, "the pool has as many connections as it may"),
    pool_errors.PoolOverloaded: _later(100, "the pool's line is full"),
    pool_errors.PoolDraining: _never("the pool is being drained"),
    pool_errors.PoolClosed: _never("the pool is closed"),
    pool_errors.HookRefused: _again(100, "a hook did not accept the connection"),
    pool_errors.ConnUnusable: _again(0, "a worker took the connection first", counts=False),
    pool_errors.BadConn: _never("the connection that several commands share has failed"),
    pool_errors.NoSlotMap: _again(100, "nobody knows yet which node has which slots"),
    NoTurn: _later(0, "no turn in time"),
    pool_errors.Cancelled: _never("the caller has cancelled", unanswered=True),
    pool_errors.DeadlineExceeded: _never("the caller's time is over", counts=True, unanswered=True),
    pool_errors.PoolError: _never("an error of the pool that has no line", counts=True, unanswered=True),
    ConnFailed: _again(0, "the connection broke before anything was sent"),
    ClusterError: _again(100, "no node would have it"),
    BatchBroken: _again(0, "the batch broke", counts=False, unanswered=True),
    # sockets without a number, and streams
    ConnectionRefusedError: ERRNOS[errno.ECONNREFUSED],
    ConnectionResetError: ERRNOS[errno.ECONNRESET],
    ConnectionAbortedError: ERRNOS[errno.ECONNABORTED],
    BrokenPipeError: ERRNOS[errno.EPIPE],
    TimeoutError: ERRNOS[errno.ETIMEDOUT],
    ConnectionError: _again(0, "the connection broke", unanswered=True),
    OSError: _again(100, "an error of the system that has no line", unanswered=True),
    EOFError: _again(0, "the peer hung up", unanswered=True),
    TransportClosed: _again(0, "the transport was closed", unanswered=True),
    hiredis.ProtocolError: _again(0, "what came is not RESP", unanswered=True),
    # who is told to end
    KeyboardInterrupt: _never("the user wants an end"),
    SystemExit: _never("the process ends"),
    # anything else
    BaseException: _never("nobody knows that error", counts=True, unanswered=True),
})  # fmt: skip


# -- reading it


def classify(error: BaseException) -> Classified:
    """What the table says of an error. Thread: any. Never blocks, never raises."""
    if isinstance(error, HttpStatusError):
        return _of_status(error)
    if isinstance(error, hiredis.ReplyError):
        return _of_reply(str(error))
    if isinstance(error, ConnFailed):
        line = ERRORS[ConnFailed]
        return replace(line, why="the connection broke, nobody knows when", unanswered=True) if error.sent else line
    if isinstance(error, TimeLimited) and error.where != "call":
        return _later(0, f"the attempt's time was over in the line of the {error.where}")
    if isinstance(error, OSError) and (error.errno or 0) in ERRNOS:
        return ERRNOS[error.errno or 0]
    line = _of_class(type(error))
    told_ns = error.retry_after_ns if isinstance(error, BreakerOpen | RateLimited | PressureRefused) else 0
    return replace(line, delay_ns=told_ns, told=True) if told_ns > 0 else line


def _of_class(kind: type[BaseException]) -> Classified:
    for base in kind.__mro__:
        if base in ERRORS:
            return ERRORS[base]
    raise AssertionError("BaseException has a line")


def _of_status(error: HttpStatusError) -> Classified:
    line = HTTP_STATUSES.get(error.status) or HTTP_HUNDREDS[error.status // 100]
    # What will not go well later either has no "later"; and "in 0 seconds" says nothing against a back-off.
    if not error.retry_after_ns or not line.again:
        return line
    return replace(line, delay_ns=error.retry_after_ns, told=True)


def _of_reply(text: str) -> Classified:
    word, _, rest = text.partition(" ")
    if word == "ERR":
        for beginning, line in REDIS_ERR_TEXTS.items():
            if rest.startswith(beginning):
                return line
    return REDIS_REPLIES.get(word, REDIS_REPLIES["ERR"])
