"""The laboratory: scenarios, carrying them out, verdicts and results.

Role: puts a coordinator, shards and a load together, resizes, watches, and says what happened.
Thread: see each file. Upstream: none. Left out: nothing of the coordinator itself lives here.
"""
