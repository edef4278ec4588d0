"""Storage: where an order that fails is kept, and the command that plays it again.

Role: one file per test, in a directory of the user's choice or in pytest's cache; its name is made of the test's, so
tests that run side by side in several processes write different files.

Thread: pytest's; blocks for the disk. Upstream: none. Left out: more than the last order that failed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from coordemu.explore.schedule_file import ScheduleFile

NAME_CHARACTERS = 80


def save(item: pytest.Function, file: ScheduleFile) -> Path | str:
    """Where it was written; or words, when it was not."""
    config = item.config
    where = config.getoption("coordemu_save")
    written = config.getini("coordemu_save")
    cache: Any = getattr(config, "cache", None)
    try:
        if where is not None:
            directory = Path(config.invocation_params.dir, where)
        elif written:
            directory = Path(config.rootpath, written)
        elif cache is not None:
            directory = cache.mkdir("coordemu")
        else:
            return "not saved, for pytest's cache is off"
        directory.mkdir(parents=True, exist_ok=True)
        readable = re.sub(r"[^A-Za-z0-9]+", "-", item.nodeid.rpartition("/")[2]).strip("-")[:NAME_CHARACTERS]
        digest = hashlib.sha256(item.nodeid.encode()).hexdigest()[:8]
        return file.save(directory / f"{readable}-{digest}.json")
    except OSError as error:
        return f"not saved: {error}"


def relative(item: pytest.Function, path: Path) -> str:
    """As one would type it where pytest was started."""
    return os.path.relpath(path, item.config.invocation_params.dir)


def command(item: pytest.Function, *options: str) -> str:
    """The command that runs this test alone, with options, as one would type it."""
    # With "=", since pytest looks for the root of the project in every path that it does not know to be an option's.
    rest = item.nodeid.partition("::")[2]
    return shlex.join(["pytest", f"{relative(item, item.path)}::{rest}", *options])
