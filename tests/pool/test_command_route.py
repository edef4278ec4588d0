"""Where a command goes: its first key, as a real server finds it, and the slot of that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordemu.pool.command_route import KEY_AT, KEYS_COUNTED_AT, READS_STREAMS, key_of_command, slot_of_command
from coordemu.pool.slot_map import slot_of
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.real_redis import RedisServer

# The first key of each is "k", and no other word is.
WITH_KEY = (
    "GET k",
    "set k k2",
    "MGET k k2",
    "XADD k * field value",
    "XACK k group 1-0",
    "ZUNIONSTORE k 1 k2",
    "XGROUP CREATE k group 0 MKSTREAM",
    "xgroup createconsumer k group me",
    "XINFO STREAM k",
    "OBJECT ENCODING k",
    "MEMORY USAGE k",
    "BITOP AND k k2 k3",
    "EVAL script 2 k k2 argument",
    "EVALSHA 0123 1 k argument",
    "XREAD STREAMS k 0",
    "XREAD COUNT 1 BLOCK 10 STREAMS k k2 0 0",
    "XREADGROUP GROUP group me STREAMS k >",
    "xreadgroup group streams block COUNT 1 BLOCK 0 NOACK streams k k2 > >",
    "ZUNION 1 k",
    "ZINTER 2 k k2 WITHSCORES",
    "ZDIFF 2 k k2",
)
# Newer than some server that the tests run with, which then says that it does not know them.
NEWER = (
    "EVAL_RO script 1 k",
    "EVALSHA_RO 0123 1 k",
    "FCALL function 1 k",
    "FCALL_RO function 1 k",
    "LMPOP 2 k k2 LEFT",
    "BLMPOP 1 2 k k2 LEFT",
    "ZMPOP 1 k MIN",
    "BZMPOP 1 1 k MIN",
    "SINTERCARD 2 k k2",
    "ZINTERCARD 2 k k2",
)
WITHOUT_KEY = (
    "PING",
    "ECHO k",
    "CLUSTER SLOTS",
    "EVAL script 0 argument",
    "EVAL script",
    "MEMORY DOCTOR",
    "OBJECT HELP",
    "XREAD COUNT 1",
    "XREADGROUP GROUP streams me COUNT",
    "XREAD what STREAMS k 0",
    "XREAD STREAMS",
)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis, asked where the keys are."""
    with RedisServer(ThreadsRuntime(seed=1)) as started:
        yield started


@pytest.mark.parametrize("command", [*WITH_KEY, *NEWER])
def test_the_first_key_is_found(command: str) -> None:
    words = command.split()
    assert key_of_command(words) == key_of_command([word.encode() for word in words]) == b"k"
    assert slot_of_command(words) == slot_of(b"k")


@pytest.mark.parametrize("command", WITHOUT_KEY)
def test_a_command_without_a_key_has_no_slot(command: str) -> None:
    assert slot_of_command(command.split()) is None


def test_numbers_are_words_too() -> None:
    assert key_of_command(("EVAL", "script", 1, 7)) == b"7"
    assert key_of_command(("EVAL", "script", 0, 7)) is None
    assert slot_of_command(("GET", 7)) == slot_of(b"7")


def test_a_server_finds_the_same_key(server: RedisServer) -> None:
    words = [command.split() for command in (*WITH_KEY, *NEWER)]
    known = server.ask("COMMAND", "INFO", *(each[0] for each in words))
    assert isinstance(known, list)
    assert None not in known[: len(WITH_KEY)]
    for each, row in zip(words, known, strict=True):
        if row is not None:
            keys = server.ask("COMMAND", "GETKEYS", *each)
            assert isinstance(keys, list)
            assert b"k" in keys, (each, keys)


def test_every_row_of_the_tables_is_tried() -> None:
    tried = {command.split()[0].upper().encode() for command in (*WITH_KEY, *NEWER)}
    assert tried >= {*KEY_AT, *KEYS_COUNTED_AT, *READS_STREAMS}
