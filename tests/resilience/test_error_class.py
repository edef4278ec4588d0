"""Error classes: every line of the table with what it has to say, and the order in which it is looked through."""

from __future__ import annotations

import errno
import pickle
import socket
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu.pool import pool_errors
from coordemu.pool.batching_client import BatchBroken
from coordemu.pool.command_route import ClusterError
from coordemu.pool.pool_errors import ConnFailed, Occupancy, PoolTimeout
from coordemu.pool.turns import NoTurn
from coordemu.resilience import resilience_errors as errors
from coordemu.resilience.error_class import (
    ERRNOS,
    ERRORS,
    HTTP_HUNDREDS,
    HTTP_STATUSES,
    REDIS_ERR_TEXTS,
    REDIS_REPLIES,
    Classified,
    ErrorClass,
    HttpStatusError,
    classify,
    retry_after_ns,
)
from coordemu.runtime.base import NS_PER_MS, NS_PER_S, TransportClosed

# class, delay in ms, and the letters: c it counts against what was called, u it may have been carried out.
REDIS = """
LOADING again 1000 c      MASTERDOWN again 1000 c   NOMASTERLINK again 1000 c  CLUSTERDOWN again 500 c
READONLY again 100 c      UNBLOCKED again 100 c     NOREPLICAS again 1000 c    MISCONF again 5000 c
NOGOODSLAVE again 1000 c  INPROG again 1000 c       IOERR again 100 cu         TRYAGAIN again 50 -
MOVED again 0 -           ASK again 0 -             BUSY later 500 c           OOM later 1000 c
NOAUTH never 0 -          WRONGPASS never 0 -       NOPERM never 0 -           DENIED never 0 -
WRONGTYPE never 0 -       CROSSSLOT never 0 -       NOSCRIPT never 0 -         NOTBUSY never 0 -
UNKILLABLE never 0 -      NOGROUP never 0 -         BUSYGROUP never 0 -        BUSYKEY never 0 -
EXECABORT never 0 -       NOPROTO never 0 -         ERR never 0 -
"""
ERRNO = """
ECONNREFUSED again 100 c   ENOENT again 100 c         ECONNRESET again 0 cu       ECONNABORTED again 0 cu
EPIPE again 0 cu           ENOTCONN again 0 cu        ESHUTDOWN again 0 cu        ETIMEDOUT again 0 cu
EHOSTUNREACH again 1000 cu EHOSTDOWN again 1000 cu    ENETUNREACH again 1000 cu   ENETDOWN again 1000 cu
ENETRESET again 100 cu     EINTR again 0 -            EAGAIN again 10 -           EMFILE later 500 -
ENFILE later 500 -         ENOBUFS later 500 -        ENOMEM later 500 -          EADDRNOTAVAIL later 500 -
EACCES never 0 -           EPERM never 0 -            EADDRINUSE never 0 -        EAFNOSUPPORT never 0 -
EPROTONOSUPPORT never 0 -  EINVAL never 0 -           EBADF never 0 -             ENOTSOCK never 0 -
"""
RESOLVER = "EAI_AGAIN again 1000 c  EAI_NONAME never 0 c  EAI_FAIL never 0 c"
HTTP = """
408 again 0 c  425 again 100 -  429 later 1000 -  501 never 0 -  503 later 1000 c  505 never 0 -
500 again 0 cu  502 again 0 cu  504 again 0 cu  599 again 0 cu
400 never 0 -  401 never 0 -  403 never 0 -  404 never 0 -  409 never 0 -  499 never 0 -  100 never 0 -  301 never 0 -
204 never 0 -
"""
OCCUPANCY = Occupancy(5, 5, 0, 0, 0, 245)


class Told(errors.ResilienceError):
    """Of a layer that has no line."""


EXCEPTIONS: list[tuple[BaseException, str]] = [
    (errors.BreakerOpen("b", "OPEN"), "later 0 -"),
    (errors.RateLimited("l"), "later 0 -"),
    (errors.BulkheadFull("k"), "later 0 -"),
    (errors.PressureRefused("a", "", 0.9), "later 0 -"),
    (errors.PressureRefused("a", "", 0.9, 0, 250 * NS_PER_MS), "later 250 -"),
    (errors.TimeLimited("g", NS_PER_MS), "again 0 cu"),
    (errors.RetriesExhausted(3, 0, OSError()), "never 0 cu"),
    (errors.BudgetSpent(3, 0, OSError()), "never 0 cu"),
    (Told(), "never 0 c"),
    (PoolTimeout("pool", NS_PER_S, OCCUPANCY), "later 0 -"),
    (pool_errors.PoolExhausted(), "later 50 -"),
    (pool_errors.PoolOverloaded(), "later 100 -"),
    (pool_errors.PoolDraining(), "never 0 -"),
    (pool_errors.PoolClosed(), "never 0 -"),
    (pool_errors.HookRefused(), "again 100 c"),
    (pool_errors.ConnUnusable(), "again 0 -"),
    (pool_errors.BadConn(), "never 0 -"),
    (pool_errors.NoSlotMap(), "again 100 c"),
    (NoTurn(), "later 0 -"),
    (pool_errors.Cancelled(), "never 0 u"),
    (pool_errors.DeadlineExceeded(), "never 0 cu"),
    (pool_errors.NotInHand(), "never 0 cu"),
    (pool_errors.TurnsOverfull(), "never 0 cu"),
    (pool_errors.PoolError(), "never 0 cu"),
    (ConnFailed("connect", "refused"), "again 0 c"),
    (ConnFailed("timeout", "no answer", sent=True), "again 0 cu"),
    (ClusterError(), "again 100 c"),
    (BatchBroken(), "again 0 u"),
    (ConnectionRefusedError("no number"), "again 100 c"),
    (ConnectionResetError("no number"), "again 0 cu"),
    (ConnectionAbortedError("no number"), "again 0 cu"),
    (BrokenPipeError("no number"), "again 0 cu"),
    (TimeoutError("no number"), "again 0 cu"),
    (ConnectionError("no number"), "again 0 cu"),
    (OSError("no number"), "again 100 cu"),
    (OSError(errno.EXDEV, "a number without a line"), "again 100 cu"),
    (EOFError(), "again 0 cu"),
    (TransportClosed(), "again 0 cu"),
    (hiredis.ProtocolError(), "again 0 cu"),
    (KeyboardInterrupt(), "never 0 -"),
    (SystemExit(), "never 0 -"),
    (ValueError(), "never 0 cu"),
    (BaseException(), "never 0 cu"),
]


def lines(table: str) -> dict[str, str]:
    words = table.split()
    return {words[at]: " ".join(words[at + 1 : at + 4]) for at in range(0, len(words), 4)}


def said(line: Classified) -> str:
    kind = {ErrorClass.RECOVERABLE: "again", ErrorClass.PERMANENT: "never", ErrorClass.BACK_PRESSURE: "later"}
    assert line.why
    assert line.again == (line.error_class is not ErrorClass.PERMANENT)
    letters = "c" * line.counts + "u" * line.unanswered
    return f"{kind[line.error_class]} {line.delay_ns // NS_PER_MS} {letters or '-'}"


@pytest.mark.parametrize(("word", "line"), lines(REDIS).items())
def test_error_replies(word: str, line: str) -> None:
    for text in (word, f"{word} and more words"):
        assert said(classify(hiredis.ReplyError(text))) == line


@pytest.mark.parametrize(("name", "line"), lines(ERRNO).items())
def test_errors_of_sockets(name: str, line: str) -> None:
    assert said(classify(OSError(getattr(errno, name), "text"))) == line


@pytest.mark.parametrize(("name", "line"), lines(RESOLVER).items())
def test_errors_of_names(name: str, line: str) -> None:
    """The numbers that the table has for want of the module are the system's."""
    assert said(classify(socket.gaierror(getattr(socket, name), "text"))) == line


@pytest.mark.parametrize(("status", "line"), lines(HTTP).items())
def test_statuses(status: str, line: str) -> None:
    assert said(classify(HttpStatusError(int(status)))) == line


@pytest.mark.parametrize(("error", "line"), EXCEPTIONS, ids=lambda it: type(it).__name__)
def test_errors_by_their_class(error: BaseException, line: str) -> None:
    assert said(classify(error)) == line


def test_no_line_is_without_its_test() -> None:
    assert set(lines(REDIS)) == set(REDIS_REPLIES)
    numbers = {getattr(errno, name) for name in lines(ERRNO)} | {getattr(socket, name) for name in lines(RESOLVER)}
    assert numbers == set(ERRNOS)
    assert {int(status) for status in lines(HTTP)} >= set(HTTP_STATUSES)
    assert {int(status) // 100 for status in lines(HTTP) if int(status) not in HTTP_STATUSES} == set(HTTP_HUNDREDS)
    assert {type(error) for error, _ in EXCEPTIONS} >= set(ERRORS) - {errors.ResilienceError}
    assert set(REDIS_ERR_TEXTS) == {"max number of clients reached"}


def test_what_stands_after_err() -> None:
    full = classify(hiredis.ReplyError("ERR max number of clients reached"))
    assert said(full) == "later 1000 c"
    assert said(classify(hiredis.ReplyError("ERR unknown command 'max number of clients reached'"))) == "never 0 -"
    assert said(classify(hiredis.ReplyError("MYMODULE says no"))) == "never 0 -"
    assert said(classify(hiredis.ReplyError(""))) == "never 0 -"


@pytest.mark.parametrize("status", [429, 503, 500, 408])
def test_retry_after_is_told(status: int) -> None:
    told = classify(HttpStatusError(status, 7 * NS_PER_S, "come later"))
    assert (told.delay_ns, told.told) == (7 * NS_PER_S, True)
    assert told.error_class is classify(HttpStatusError(status)).error_class


def test_retry_after_nothing_and_with_what_is_permanent_says_nothing() -> None:
    assert classify(HttpStatusError(503, 0)) == classify(HttpStatusError(503))
    assert classify(HttpStatusError(404, NS_PER_S)) == classify(HttpStatusError(404))


def test_breaker_and_limiter_tell_when() -> None:
    for error in (errors.BreakerOpen("b", "OPEN", 30 * NS_PER_S), errors.RateLimited("l", 0, 30 * NS_PER_S)):
        told = classify(error)
        assert (told.error_class, told.delay_ns, told.told) == (ErrorClass.BACK_PRESSURE, 30 * NS_PER_S, True)
        assert not told.counts


@pytest.mark.parametrize("where", ["limiter", "bulkhead"])
def test_a_time_limit_in_a_line_is_back_pressure(where: str) -> None:
    line = classify(errors.TimeLimited("g", NS_PER_MS, where))
    assert said(line) == "later 0 -"
    assert where in line.why


class Odd(Exception):
    """Nobody knows it."""


def test_a_subclass_has_its_bases_line() -> None:
    class Moved(ConnectionResetError):
        pass

    assert said(classify(Moved("no number"))) == "again 0 cu"
    assert said(classify(Odd())) == "never 0 cu"


@pytest.mark.parametrize("bad", [{"status": 99}, {"status": 600}, {"status": 503, "retry_after_ns": -1}])
def test_bounds_of_a_status(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="HTTP status"):
        HttpStatusError(**bad)


@given(st.integers(100, 599), st.none() | st.integers(0, 10**12))
def test_every_status_has_a_class(status: int, after_ns: int | None) -> None:
    error = HttpStatusError(status, after_ns, "reason")
    line = classify(error)
    assert line.delay_ns >= 0
    assert line.again == (status in (408, 425, 429) or (status >= 500 and status not in (501, 505)))
    assert str(status) in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (None, None), ("", None), ("120", 120 * NS_PER_S), (" 0 ", 0), ("-1", None), ("1.5", None), ("soon", None),
        ("Fri, 21 Nov 2026 07:28:00 GMT", None), ("9" * 5000, 366 * 24 * 3600 * NS_PER_S), ("²", None),
        ("99999999999", 366 * 24 * 3600 * NS_PER_S),
    ],
)  # fmt: skip
def test_reading_the_header(header: str | None, value: int | None) -> None:
    assert retry_after_ns(header) == value


@pytest.mark.parametrize("error", [error for error, _ in EXCEPTIONS if isinstance(error, errors.ResilienceError)])
def test_this_layers_errors_can_be_copied_and_read(error: Any) -> None:
    copied = pickle.loads(pickle.dumps(error))
    assert str(copied) == str(error)
    assert vars(copied).keys() == vars(error).keys()


def test_what_the_errors_say() -> None:
    assert str(errors.BreakerOpen("hub", "OPEN", 1_500_000)) == "hub: OPEN, again in 1.5 ms"
    assert str(errors.RateLimited("hub", NS_PER_MS, NS_PER_S)) == "hub: no token after 1 ms, again in 1000 ms"
    assert str(errors.BulkheadFull("db", 0, 8, 3)) == "db: no slot of 8 after 0 ms, 3 waiting"
    assert str(errors.TimeLimited("g", NS_PER_S, "call")) == "g: the attempt's 1000 ms are over, in the call"
    given_up = errors.RetriesExhausted(4, NS_PER_S, ValueError("no"), "enough")
    assert str(given_up) == "gave up after 4 attempts in 1000 ms (enough): ValueError: no"


def test_faults_are_checked_by_name() -> None:
    known = {"one-fault": "A sentence.", "another": "A sentence."}
    assert errors.check_faults(["another"], known, "it") == {"another"}
    assert errors.check_faults((), known, "it") == frozenset()
    with pytest.raises(errors.UnknownFault, match="no fault of it is called 'one-falt'; did you mean 'one-fault'"):
        errors.check_faults(["one-falt"], known, "it")
    with pytest.raises(errors.UnknownFault, match="not the one word"):
        errors.check_faults("another", known, "it")
