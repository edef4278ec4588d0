"""Resize: what counts as a shrink, and when a resize is complete."""

from __future__ import annotations

import pytest

from coordemu.coord.drain_receipt import DrainReceipt
from coordemu.coord.resize_policy import get_policy
from coordemu.coord.resize_record import Resize

RECEIPT = DrainReceipt("nothing-pending", 13, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 36)


def resize(before: int = 12, after: int = 0) -> Resize:
    return Resize(get_policy("upstream-7410"), before, after, before + 1, after + 1, started_ns=5)


@pytest.mark.parametrize(("before", "after", "shrinks"), [(12, 0, True), (4, 9, False), (3, 3, False)])
def test_it_shrinks_when_threads_are_taken_away(before: int, after: int, shrinks: bool) -> None:
    assert resize(before, after).shrinks is shrinks


def test_it_is_complete_when_it_has_returned_and_every_receipt_is_there() -> None:
    record = resize()
    record.receipts_expected = 2
    assert not record.complete
    record.returned_ns = 9
    record.receipts.append(RECEIPT)
    assert not record.complete
    record.receipts.append(RECEIPT)
    assert record.complete


def test_receipts_alone_do_not_make_it_complete() -> None:
    record = resize()
    record.receipts.append(RECEIPT)
    assert not record.complete
