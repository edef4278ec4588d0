"""The failing orders in examples/schedules: each file still plays, step by step, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordemu.coord.resize_policy import POLICIES
from coordemu.explore.replay import difference, replay
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.lab.subjects import subject_from

DIRECTORY = Path(__file__).resolve().parents[1] / "examples" / "schedules"
FILES = sorted(DIRECTORY.glob("*.json"))
AGAIN = "the layers have changed: `make schedules` searches these orders anew"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_saved_order_shows_what_it_says(path: Path) -> None:
    file = ScheduleFile.load(path)
    played = replay(subject_from(file.subject), file)
    assert difference(file, played) == "", AGAIN
    assert file.failure is not None
    assert file.verdict in path.stem


def test_the_findings_are_all_there() -> None:
    """Every policy that fails somewhere has a file, those that should not fail have none but for what was found."""
    stems = {path.stem for path in FILES}
    failing = {policy for policy in POLICIES if any(f"-{policy}-" in stem for stem in stems)}
    # Those that only ever refuse have no file; coordemu-safe has none because nothing was found.
    assert set(POLICIES) - failing == {"writeup-fix", "writeup-fix-pool-pause", "upstream-7193", "coordemu-safe"}
    for finding in ("upstream-7410-deadlocked", "upstream-7194-deadlocked", "shrink-drain-event-deadlocked"):
        assert {f"there-and-back-{finding}", f"two-in-flight-{finding}"} <= stems
