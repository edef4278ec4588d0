"""DeathWatch: ends a server of ours when this process dies, since a Redis server would live on.

Role: a small shell waits for the end of its standard input, whose other end only this process holds. However this
process ends, the kernel closes that end, and the shell kills the server and removes its directory. A death signal set
in the child between fork and exec would be simpler, but code that runs there is not safe when other threads exist.

Thread: any, one at a time. Upstream: none. Left out: servers that end by themselves (their own `stop` reaps them).
"""

from __future__ import annotations

import subprocess

_SCRIPT = 'read -r _; kill -9 "$1" 2>/dev/null; rm -rf "$2"'


class DeathWatch:
    """Watches over one process.

    pid: whom to kill.  directory: what to remove then. Starts at once; raises OSError without a shell.
    """

    def __init__(self, pid: int, directory: str) -> None:
        self._pid = pid
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", str(pid), directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __repr__(self) -> str:
        return f"<DeathWatch of {self._pid} by {self._shell.pid}>"

    def statistics(self) -> dict[str, int]:
        """The two process ids."""
        return {"watched": self._pid, "shell": self._shell.pid}

    def stop(self) -> None:
        """Call the watch off; the watched process lives on.

        To be done before it is reaped, lest its id be another's. Idempotent.
        """
        self._shell.kill()
        self._shell.wait()
        if self._shell.stdin is not None:
            self._shell.stdin.close()
