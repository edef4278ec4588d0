"""coordemu: an in-process laboratory of the RediSearch coordinator.

The layers of the coordinator really run here: a main thread with the module lock, a pool of workers, an I/O thread with
its loop, connections with replies in flight, and shards that answer. What it is for: unit tests of the order in which
pools shrink, measurements of how long a drain takes, and teaching the chain of calls.
"""

from __future__ import annotations

__version__ = "0.1.0"
