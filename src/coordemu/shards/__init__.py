"""Shards: what the coordinator's connections talk to, and how a run gets hold of some.

Role: the far end of every connection. `EmbeddedShard` is a RESP server written over the runtime's loop, so it
answers over real sockets on real threads and over simulated ones in a simulator; `ShardProcess` hosts many of them in
a process of their own, so that they do not share the interpreter with what is measured; `RedisServer` starts a
real Redis. `ShardFleet` gives a run its endpoints whichever of these stands behind them.

Place in the chain: beside `coordemu.coord`, above `coordemu.runtime`; it imports nothing of coord. Thread: each file
says. Upstream: the shards of a RediSearch cluster. Left out: indexing and searching; a query here only takes its time
and answers.
"""
