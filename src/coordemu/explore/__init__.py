"""Searching the orders of a simulated program: subjects, strategies over many runs, schedule files, shrinking.

Thread: one OS thread per search. Upstream: none. Left out: what a coordinator is; `coordemu.lab` makes one a subject.
"""
