"""The child process of a run: ``python -m coordemu.lab.child_main``; request on stdin, lines of JSON on stdout.

Role: a run that hangs leaves threads that no one can end, so every run on real threads has a process of its own. The
child judges itself (`coordemu.lab.watch`); it writes ``{"progress": …}`` lines, takes its shards down, writes one
``{"result": …}`` or ``{"error": …}`` line, and ends, by force where threads are stuck. Should even that fail, the
parent's own deadline ends it.

Its stdin is the tie to the parent. When that ends before the answer is out, the parent has gone or wants no answer:
the run is interrupted as by Ctrl-C, the shards are taken down, and the process ends.

Thread: its main thread is the lab's; one more waits for the end of stdin. Upstream: none. Left out: everything else;
the work is in `coordemu.lab.run`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from coordemu.coord.resize_policy import ResizePolicy
from coordemu.lab.run import LabRun, ShardsUnreachable
from coordemu.lab.scenario import Scenario
from coordemu.runtime.base import NS_PER_S
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fault_plan import FaultPlan
from coordemu.shards.fd_limit import raise_fd_limit
from coordemu.shards.shard_errors import ShardError
from coordemu.shards.shard_fleet import ShardFleet
from coordemu.shards.shard_url import parse_shard_url

PARTING_S = 10


def say(**line: Any) -> None:
    """Write one line for the parent, at once. Ends the process quietly when the parent has gone."""
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)


class ParentWatch:
    """Waits for the end of stdin, in a thread of its own, and interrupts the main thread then."""

    def __init__(self) -> None:
        """Begin. Interrupts are held back until `allow`."""
        # A runtime of its own, so that this thread is in nobody's wait-for graph.
        self._rt = ThreadsRuntime()
        self._alone = False
        self.hold_back()
        self._rt.spawn(self._wait, name="parent watch")

    def _wait(self) -> None:
        while os.read(0, 4096):
            pass
        self._alone = True
        os.kill(os.getpid(), signal.SIGINT)
        self._rt.sleep_ns(PARTING_S * NS_PER_S)
        os._exit(1)  # whatever the main thread does, it takes too long

    def hold_back(self) -> None:
        """No interrupt from here on: while shards start, half of one would be left, and while they stop, too."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def allow(self) -> None:
        """Interrupts again. Raises KeyboardInterrupt for one that was held back. Thread: main."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._alone:
            raise KeyboardInterrupt


def main() -> None:
    """Read the request, run, answer, end. Blocks for the length of the run."""
    request = json.loads(sys.stdin.readline())
    try:
        answer, clean = _carry_out(request, ParentWatch())
    except KeyboardInterrupt:
        os._exit(1)
    say(**answer)
    sys.stderr.flush()
    if not clean:
        os._exit(0)


def _carry_out(request: Mapping[str, Any], watch: ParentWatch) -> tuple[dict[str, Any], bool]:
    """What to answer, and whether the process can end by itself. The shards have gone by then."""
    scenario = Scenario.from_json(request["scenario"])
    fields = dict(request["policy"])
    policy = ResizePolicy(**{**fields, "order": tuple(fields["order"])})
    raise_fd_limit()
    rt = ThreadsRuntime(seed=scenario.seed)
    fleet: ShardFleet | None = None
    try:
        fleet = ShardFleet.start(rt, parse_shard_url(scenario.shards), FaultPlan.parse(scenario.faults), scenario.seed)
        watch.allow()
        run = LabRun(rt, scenario, policy, fleet, progress=lambda line: say(progress=line))
        return {"result": run.carry_out().to_json()}, run.clean
    except (ShardError, ShardsUnreachable, OSError) as err:
        return {"error": str(err)}, False
    except Exception as err:
        traceback.print_exc()
        where = traceback.extract_tb(err.__traceback__)[-1]
        place = f"{os.path.basename(where.filename)}:{where.lineno}"
        return {"error": f"the run broke off with {type(err).__name__} at {place}: {err}"}, False
    finally:
        watch.hold_back()  # from here on it ends by itself
        if fleet is not None:
            fleet.stop()


if __name__ == "__main__":
    main()
