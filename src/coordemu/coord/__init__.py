"""The coordinator itself: thread pool, workers, configuration, request queue, I/O threads, connections, fan-out.

One file per upstream file, with upstream's nouns. Calls go down (host, resize, cluster, I/O runtime, connection
manager, connection); what upstream calls upwards is a value passed in. Thread: each file says which thread runs it.
Upstream: src/coord, src/util/workers.c, deps/thpool. Left out: the query language and the indexes; a query here is a
lock held, a fan-out and a wait.
"""
