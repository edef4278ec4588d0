"""The program of a shard process: ``python -m coordemu.shards.shard_main DIRECTORY SEED``.

Role: started by `coordemu.shards.shard_process`, never by hand. Turns one loop with the control line and the shards on
it, until its parent has gone. It listens under a temporary name and renames it, so that the socket's name appears only
once it can be connected to.

Thread: the only one of its process. Upstream: none. Left out: arguments that a listing of processes should not show
(the password comes over the control line).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from coordemu.runtime.base import Address
from coordemu.runtime.threads import ThreadsRuntime
from coordemu.shards.fd_limit import raise_fd_limit
from coordemu.shards.shard_control import CONTROL_NAME, LOG_NAME, ShardControl


def main(arguments: list[str]) -> int:
    """Host shards until the parent has gone. arguments: the private directory and the seed. Returns the exit status."""
    directory, seed = Path(arguments[0]), int(arguments[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; its end is ours
    raise_fd_limit()
    rt = ThreadsRuntime(seed=seed)
    loop = rt.loop("shards")
    control_path = directory / CONTROL_NAME
    control = ShardControl(rt, loop, Address(path=f"{control_path}.new"))
    os.rename(f"{control_path}.new", control_path)
    gc.freeze()  # nothing made so far is ever garbage
    loop.run()
    if control.host is not None:
        control.host.stop()
    loop.close()
    # The parent removes these too, unless it was killed.
    for path in (control_path, directory / LOG_NAME):
        path.unlink(missing_ok=True)
    for path in (directory, Path(control.unix_dir_to_remove)) if control.unix_dir_to_remove else (directory,):
        with suppress(OSError):  # when it holds something of somebody else's
            path.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
