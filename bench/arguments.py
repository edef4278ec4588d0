"""Arguments: a parser of a benchmark's arguments that says in one line what is wrong with them.

Role: argparse puts its usage in front of every complaint; whoever called knows what they called, and has ``--help``.

Thread: main. Upstream: none. Left out: nothing.
"""

from __future__ import annotations

import argparse
from typing import NoReturn


class Arguments(argparse.ArgumentParser):
    """argparse's, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, and one line on stderr."""
        self.exit(2, f"{self.prog}: error: {message}; --help says what there is\n")
