"""Origin: where a setting's value comes from.

Role: goes beside every value, from the reader that took it to the listing and to the errors. A later kind overrides an
earlier one: default, profile, file, environment.

Thread: values, any. Upstream: none. Left out: what a value would have been without its origin.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT, PROFILE, FILE, ENVIRONMENT = "default", "profile", "file", "environment"
PRECEDENCE = (DEFAULT, PROFILE, FILE, ENVIRONMENT)


@dataclass(frozen=True, slots=True)
class Origin:
    """kind: one of `PRECEDENCE`.  where: the profile, the file's path or the variable; "" for a default.  line: in the
    file, from 1 on; 0: not known."""

    kind: str
    where: str = ""
    line: int = 0

    def __str__(self) -> str:
        if self.kind == FILE:
            return f"{printable(self.where)}:{self.line}" if self.line else printable(self.where)
        return f"profile {self.where}" if self.kind == PROFILE else self.where or self.kind

    def to_json(self) -> dict[str, str | int]:
        """For a report."""
        return {"kind": self.kind, "where": self.where, "line": self.line}


def printable(path: str) -> str:
    """A path as it can stand in a line of text."""
    return path if path.isprintable() else ascii(path)
