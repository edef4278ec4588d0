"""Reports: results as tables and text for people.

Role: everything that a user reads on stdout is made here from a `Result`. Thread: the caller's; pure apart from
printing. Upstream: none. Left out: judging, which `coordemu.lab.verdict` does.
"""
