"""Arguments: a parser of a benchmark's arguments that says in one line what is wrong with them; and how a script ends.

Role: argparse puts its usage in front of every complaint; whoever called knows what they called, and has ``--help``.
And whoever presses Ctrl-C knows where they did, and wants no stack.

Thread: main. Upstream: none. Left out: nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

INTERRUPTED = 130


class Arguments(argparse.ArgumentParser):
    """argparse's, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, and one line on stderr."""
        self.exit(2, f"{self.prog}: error: {message}; --help says what there is\n")


def exit_with(main: Callable[[], int]) -> NoReturn:
    """End the process with what `main` returns; with 130 and one line on stderr when Ctrl-C has ended it."""
    try:
        status = main()
    except KeyboardInterrupt:
        print(f"{sys.argv[0]}: interrupted", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)
