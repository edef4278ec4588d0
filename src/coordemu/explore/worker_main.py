"""A worker of a divided search: ``python -m coordemu.explore.worker_main``; lines of JSON in and out.

Role: the child of `jobs`. The first line on stdin names the subject and its factory; it is made, and the worker says
that it is ready. Each further line is a piece, which is played and answered with its result. A line that says stop ends
the piece after the order it is at. The end of stdin ends the process at once, whatever it plays: its parent has gone.

Thread: the main one plays; one more reads stdin. Upstream: none. Left out: choosing pieces.
"""

from __future__ import annotations

import json
import os
import sys
from queue import SimpleQueue
from typing import Any

from coordemu.explore.ranges import JobsError, Work
from coordemu.explore.search import search_range
from coordemu.runtime.threads import ThreadsRuntime


class Outlet:
    """What goes to the parent. From here on what others print goes to stderr."""

    def __init__(self) -> None:
        """Take stdout."""
        self._file = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **line: Any) -> None:
        """One line, at once; the end of the process when the parent has gone."""
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except BrokenPipeError:
            os._exit(1)


class Inbox:
    """What the parent says, read in a thread of its own."""

    def __init__(self, rt: ThreadsRuntime) -> None:
        """Begin to read."""
        self._lines: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._stopped = False
        rt.spawn(self._read, name="inbox")

    def _read(self) -> None:
        rest = b""
        while data := os.read(0, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "stop" in message:
                    self._stopped = True
                else:
                    self._lines.put(message)
        os._exit(0)

    def next(self) -> dict[str, Any]:
        """The next line that is no stop. Blocks."""
        return self._lines.get()

    def stopped(self) -> bool:
        """Whether a stop was said."""
        return self._stopped


def main() -> None:
    """Serve until the end of stdin. Never returns but after an error, which it has said."""
    rt = ThreadsRuntime()
    outlet, inbox = Outlet(), Inbox(rt)
    hello = inbox.next()
    sys.path += [entry for entry in hello["path"] if entry not in sys.path]
    work = Work(hello["subject"], hello["factory"], hello["strategy"], hello["seed"], hello["length"])
    try:
        subject = work.make_subject()
        outlet.say(ready=True)
        while True:
            piece = inbox.next()
            began_ns = rt.now_ns()
            result = search_range(
                subject, work.strategy, work.seed, piece["first"], piece["count"], work.length, stop=inbox.stopped
            )
            outlet.say(result=result.to_json(), took_ns=rt.now_ns() - began_ns)
    except (JobsError, ValueError) as err:
        outlet.say(error=str(err))
    os._exit(1)


if __name__ == "__main__":
    main()
