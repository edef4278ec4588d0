"""The benchmarks: a package of scripts, run by `make bench`, by ``coordemu bench`` or one by one.

Role: measures what coordemu promises, each figure against a baseline in the same run; bench/README.md describes them.
Nothing here asserts on a time. Thread: none. Upstream: none. Left out: installing it; it belongs to the source
checkout.
"""
