"""Writing RESP, read back by hiredis: what is encoded is what a client gets, in both protocols."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordemu import resp_encode

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=50)


def read(data: bytes) -> Any:
    """The one reply in data; nothing may be left over."""
    reader = hiredis.Reader()
    reader.feed(data)
    reply = reader.gets()
    assert reader.gets() is False
    return reply


@given(LINES)
def test_a_status_is_read_back(text: str) -> None:
    assert read(resp_encode.simple(text)) == text.encode()


@given(st.text(max_size=50))
def test_an_error_stays_one_reply_whatever_its_text(text: str) -> None:
    reply = read(resp_encode.error("ERR " + text))
    assert isinstance(reply, hiredis.ReplyError)
    assert "\r" not in str(reply)
    assert "\n" not in str(reply)


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_read_back(number: int) -> None:
    assert read(resp_encode.integer(number)) == number


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_an_array_of_strings_is_read_back(items: list[bytes]) -> None:
    assert read(resp_encode.array([resp_encode.bulk(item) for item in items])) == items


@pytest.mark.parametrize("protocol", [2, 3])
def test_null_is_none_in_both_protocols(protocol: int) -> None:
    assert read(resp_encode.null(protocol)) is None


@given(st.dictionaries(st.binary(max_size=10), st.integers(0, 9), max_size=5))
def test_a_map_is_a_map_in_resp3_and_flat_in_resp2(pairs: dict[bytes, int]) -> None:
    encoded = [(resp_encode.bulk(key), resp_encode.integer(value)) for key, value in pairs.items()]
    assert read(resp_encode.mapping(encoded, 3)) == pairs
    assert read(resp_encode.mapping(encoded, 2)) == [part for pair in pairs.items() for part in pair]
