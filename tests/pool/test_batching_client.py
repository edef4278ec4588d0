"""Shared pipelines: every caller has the reply to its own command, whoever sent it. On both runtimes."""

from __future__ import annotations

import hiredis
import pytest

from coordemu.pool.batching_client import BatchBroken, BatchingClient
from coordemu.pool.pool_errors import ConnFailed


class EchoClient:
    """In the place of a cluster client: answers each command with itself, after others had time to come."""

    def __init__(self, rt):
        self.rt = rt
        self.batches = []
        self.most_at_once = self.at_once = 0
        self.lock = rt.lock("echo")
        self.answer = lambda command: command

    def pipeline(self, commands):
        with self.lock:
            self.batches.append(list(commands))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.rt.sleep_ns(1_000_000)
        try:
            return [self.answer(command) for command in commands]
        finally:
            with self.lock:
                self.at_once -= 1


@pytest.fixture
def echo(rt):
    return EchoClient(rt)


def run_callers(rt, client, count, commands, wrong):
    """`count` tasks that send `commands` each; what went wrong is appended."""

    def caller(number):
        for index in range(commands):
            command = ("SET", f"key:{number}", f"{number}:{index}")
            try:
                reply = client.execute(*command)
            except Exception as error:  # the test judges
                reply = error
            if reply != command:
                wrong.append((command, reply))

    tasks = [rt.spawn(caller, number, name=f"caller {number}") for number in range(count)]
    for task in tasks:
        task.join()
    assert all(task.error is None for task in tasks)


@pytest.mark.parametrize(("lanes", "batch", "leaders"), [(1, 64, 1), (1, 4, 1), (1, 3, 2), (3, 64, 1), (2, 1, 3)])
def test_every_caller_has_its_own_reply(rt, echo, lanes, batch, leaders):
    client = BatchingClient(rt, echo, lanes, batch, leaders)
    wrong = []
    run_callers(rt, client, 12, 5, wrong)
    assert wrong == []
    assert sorted(command for each in echo.batches for command in each) == sorted(
        ("SET", f"key:{number}", f"{number}:{index}") for number in range(12) for index in range(5)
    )
    assert max(map(len, echo.batches)) <= batch
    assert echo.most_at_once <= lanes * leaders
    sums = client.statistics()
    assert sums["commands"] == 60
    assert sums["batches"] == len(echo.batches)
    assert sums["waiting"] == 0
    assert sums["longest"] == max(map(len, echo.batches))


def test_a_command_alone_goes_alone(rt, echo):
    client = BatchingClient(rt, echo, 1)
    assert [client.execute("GET", str(number)) for number in range(3)] == [("GET", str(number)) for number in range(3)]
    assert list(map(len, echo.batches)) == [1, 1, 1]


def hold(rt, client, echo, count):
    """One leads and stays in its pipeline; `count` more callers queue up. Returns (let it go, tasks, outcomes)."""
    gate, entered = rt.event("go on", owed_by=lambda: ["the test"]), rt.event("entered", owed_by=lambda: ["a leader"])
    outcomes = {}
    plain = echo.pipeline

    def pipeline(commands):
        if not entered.is_set():
            entered.set()
            gate.wait()
        return plain(commands)

    echo.pipeline = pipeline

    def caller(number):
        try:
            outcomes[number] = client.execute("GET", f"key:{number}")
        except BaseException as error:
            outcomes[number] = error

    tasks = [rt.spawn(caller, 0, name="caller 0")]
    entered.wait()
    for number in range(1, count + 1):
        tasks.append(rt.spawn(caller, number, name=f"caller {number}"))
        rt.poll_until(lambda number=number: client.statistics()["waiting"] == number, 1000, "it queues")
    return gate, tasks, outcomes


def finish(gate, tasks):
    gate.set()
    for task in tasks:
        task.join()


def test_who_comes_meanwhile_shares_the_next_batch_in_the_order_of_coming(rt, echo):
    client = BatchingClient(rt, echo, 1, batch=3)
    gate, tasks, outcomes = hold(rt, client, echo, 5)
    finish(gate, tasks)
    assert [[int(command[1][4:]) for command in each] for each in echo.batches] == [[0], [1, 2, 3], [4, 5]]
    assert outcomes == {number: ("GET", f"key:{number}") for number in range(6)}


def test_errors_are_those_of_their_own_command(rt, echo):
    client = BatchingClient(rt, echo, 1)
    failed = ConnFailed("closed", "gone", sent=True)
    replies = {"key:1": hiredis.ReplyError("ERR no"), "key:2": failed}
    echo.answer = lambda command: replies.get(command[1], b"fine")
    gate, tasks, outcomes = hold(rt, client, echo, 3)
    finish(gate, tasks)
    assert outcomes[0] == outcomes[3] == b"fine"
    assert isinstance(outcomes[1], hiredis.ReplyError)
    assert outcomes[2] is failed


def test_a_leader_that_breaks_takes_its_batch_along_and_no_other(rt, echo):
    client = BatchingClient(rt, echo, 1, batch=2)

    def answer(command):
        if command[1] == "key:1":
            raise MemoryError
        return b"fine"

    echo.answer = answer
    gate, tasks, outcomes = hold(rt, client, echo, 4)
    finish(gate, tasks)
    assert isinstance(outcomes[1], MemoryError)
    assert isinstance(outcomes[2], BatchBroken)
    assert outcomes[0] == outcomes[3] == outcomes[4] == b"fine"
    assert client.execute("GET", "later") == b"fine"


def test_what_is_no_command_is_its_callers_error_alone(rt, echo):
    client = BatchingClient(rt, echo, 1)
    with pytest.raises(TypeError):
        client.execute("SET", "key", None)
    with pytest.raises(ValueError, match="one word"):
        client.execute()
    with pytest.raises(UnicodeEncodeError):
        client.execute("SET", "key", "\ud800")
    assert echo.batches == []
    assert client.execute("PING") == ("PING",)


class Torn(BaseException):
    """What Ctrl-C would raise."""


class TearingRuntime:
    """A runtime whose event number `nth` tears its waiter out: at once, or when it is woken."""

    def __init__(self, rt, nth, at_once=False):
        self.rt, self.left, self.at_once = rt, nth, at_once

    def event(self, name, owed_by):
        made = self.rt.event(name, owed_by=owed_by)
        self.left -= 1
        return made if self.left else TearingEvent(made, self.at_once)


class TearingEvent:
    def __init__(self, event, at_once):
        self.event, self.at_once, self.set = event, at_once, event.set

    def wait(self):
        if not self.at_once:
            self.event.wait()
        raise Torn


@pytest.mark.parametrize("torn", [1, 2])
def test_who_is_torn_out_when_woken_is_not_waited_for(rt, echo, torn):
    """torn: the one that is to lead next, or one behind it, which has its reply by then."""
    client = BatchingClient(rt, echo, 1)
    client._rt = TearingRuntime(rt, torn)
    gate, tasks, outcomes = hold(rt, client, echo, 3)
    finish(gate, tasks)
    assert isinstance(outcomes.pop(torn), Torn)
    assert outcomes == {number: ("GET", f"key:{number}") for number in {0, 1, 2, 3} - {torn}}
    assert client.execute("GET", "later") == ("GET", "later")
    assert client._lanes[0].leaders == 0


def test_who_is_torn_out_of_the_queue_sends_nothing(rt, echo):
    client = BatchingClient(rt, echo, 1)
    client._rt = TearingRuntime(rt, 1, at_once=True)
    gate, tasks, outcomes = hold(rt, client, echo, 0)
    with pytest.raises(Torn):
        client.execute("GET", "torn")
    assert client.statistics()["waiting"] == 0
    finish(gate, tasks)
    assert outcomes == {0: ("GET", "key:0")}
    assert echo.batches == [[("GET", "key:0")]]
    assert client._lanes[0].leaders == 0


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_bounds(rt, echo, bad):
    with pytest.raises(ValueError, match="1 or more"):
        BatchingClient(rt, echo, *bad)
