"""OrderGarbage: what a search does about the garbage collector.

Role: an order leaves some 1,500 objects in cycles (a coordinator knows its host, the host its loop). While they are
still in the processor's caches, taking them away costs a tenth of what it costs a hundred orders later, and the
collector's own moments are late ones, that look at everything else as well. So while a search is under way the
collector rests, what was there before is put out of its sight, and what an order left is taken away when the next is
about to begin.

Thread: one search at a time per process; a second one inside is as right, and slower. Upstream: none. Left out: what
happens inside of an order, where the collector rests in any case (`order.play`). Bound: what a search itself keeps is
looked at again at most REST times.
"""

from __future__ import annotations

import gc

# A search that keeps much (a tree of orders) would have it looked at again and again.
REST = 64
# Of a small program a few orders go by before there is so much to take away.
ENOUGH = 1_000


class OrderGarbage:
    """The collector's rest, as a context. `after_order` is called between two orders."""

    def __init__(self) -> None:
        self._was_on = False
        self._looks = 0

    def __enter__(self) -> OrderGarbage:
        self._was_on = gc.isenabled()
        gc.disable()
        gc.freeze()
        return self

    def after_order(self) -> None:
        """Take away what the order left, if that is worth a look. Thread: the search's. Blocks for some 100
        microseconds."""
        if gc.get_count()[0] < ENOUGH:
            return
        gc.collect()
        self._looks += 1
        if self._looks % REST == 0:
            gc.freeze()

    def __exit__(self, *exc: object) -> None:
        gc.unfreeze()
        if self._was_on:
            gc.enable()

    def __repr__(self) -> str:
        return f"<OrderGarbage after {self._looks} looks>"
