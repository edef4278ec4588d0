"""HangWatch: decides, while a run goes on, whether the host has frozen, and why.

Role: the watchdog's eyes. It looks at the PING prober; when an answer is overdue it reads the wait-for graph from
main. A chain that closes on itself, or ends at nobody, and is still the same a moment later, is a deadlock: no such
wait has a time limit. Without one, a host that answers no PING for the watchdog's whole time is unresponsive.

Thread: the lab's; it reads others' state without blocking them. Upstream: the stacks that a debugger showed.
Left out: ending the process, which is the child's own matter (`coordemu.lab.child_main`).
"""

from __future__ import annotations

from coordemu.coord.host import Host
from coordemu.lab.prober import PingProber
from coordemu.runtime.base import NS_PER_MS, Runtime
from coordemu.runtime.wait_for import Chain, chain_from

OVERDUE_NS = 300 * NS_PER_MS
CONFIRM_NS = 300 * NS_PER_MS


class HangWatch:
    """Call `hung` often; it is cheap while PINGs are answered."""

    def __init__(self, rt: Runtime, host: Host, prober: PingProber, watchdog_ms: int) -> None:
        """watchdog_ms: how long without an answered PING makes the host unresponsive."""
        self._rt = rt
        self._host = host
        self._prober = prober
        self._limit_ns = watchdog_ms * NS_PER_MS
        self._overdue_ns = min(OVERDUE_NS, self._limit_ns)
        self._suspect: Chain | None = None
        self._suspect_since_ns = 0
        self.verdict = ""
        self.sentence = ""
        self.chain: Chain | None = None

    def hung(self) -> bool:
        """True once the host has been found frozen; `verdict` and `sentence` then say how."""
        if self.verdict:
            return True
        gap_ns = self._prober.gap_now_ns()
        main = self._host.task
        if main is not None and not main.alive:
            self.verdict, self.sentence = "unresponsive", f"the main thread has ended: {main.error!r}"
            return True
        if gap_ns < self._overdue_ns or main is None:
            self._suspect = None
            return False
        now_ns = self._rt.now_ns()
        chain = chain_from(self._rt, main)
        if chain.kind not in ("cycle", "orphan"):
            self._suspect = None
        elif self._suspect is None or self._suspect.steps != chain.steps:
            self._suspect, self._suspect_since_ns = chain, now_ns
        elif now_ns - self._suspect_since_ns >= CONFIRM_NS:
            self.verdict, self.sentence, self.chain = "deadlocked", chain.sentence, chain
        if not self.verdict and gap_ns >= self._limit_ns:
            self.verdict, self.chain = "unresponsive", chain
            self.sentence = f"no PING answered for {gap_ns / NS_PER_MS:.0f} ms; {chain.sentence}"
        return bool(self.verdict)
