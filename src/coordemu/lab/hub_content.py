"""What the Hub holds: messages and conversations, made from their ids.

Role: the content of the web API, without storing any: everything follows from an id, so a worker's result can be
checked against what it must be, at any time, and two runs see the same.

Thread: pure, any. Upstream: none. Left out: attachments, edits, time zones.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

AUTHORS = ("ada", "bob", "cleo", "dan", "eva", "finn", "gus", "hana")
WORDS = ("pool", "drain", "shard", "turn", "lease", "queue", "retry", "probe", "window", "token", "slot", "stream")
PAGE_SIZE = 20
LONGEST_CONVERSATION = 100
FIRST_SENT_S = 1_700_000_000


def number_of(*parts: str | int) -> int:
    """A number of 64 bits that follows from the parts alone; the Hub's chance, too. Thread: any."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def message_of(message_id: str) -> dict[str, Any]:
    """The message with that id. Thread: any."""
    draw = number_of("message", message_id)
    words = [WORDS[(draw >> 5 * index) % len(WORDS)] for index in range(2 + draw % 10)]
    return {
        "id": message_id,
        "author": AUTHORS[draw % len(AUTHORS)],
        "sent_s": FIRST_SENT_S + draw % 10_000_000,
        "text": " ".join(words),
        "digest": f"{draw:016x}",
    }


def length_of(conversation: str) -> int:
    """How many messages a conversation has, 1 to 100. Thread: any."""
    return 1 + number_of("conversation", conversation) % LONGEST_CONVERSATION


def page_of(conversation: str, cursor: int, limit: int = PAGE_SIZE) -> dict[str, Any]:
    """Messages of a conversation from the cursor on (0 or more), at most `limit` (1 or more), and the next cursor, None
    at the end. Thread: any."""
    end = min(cursor + limit, length_of(conversation))
    return {
        "conversation": conversation,
        "messages": [message_of(f"{conversation}/{index}") for index in range(cursor, end)],
        "next": end if end < length_of(conversation) else None,
    }


def pack(value: dict[str, Any]) -> bytes:
    """As the Hub sends it. Thread: any."""
    return json.dumps(value, separators=(",", ":")).encode()
