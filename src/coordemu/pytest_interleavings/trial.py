"""Trial: a test's turn, from its call to its verdict.

Role: searches the orders of a test, or replays one; remembers what failed, and explains it: has it made small and
saved, and puts the section into the report. A test with examples (`given`) looks once for each of them.

Thread: pytest's. Upstream: none. Left out: the words of the report (`section`), which tests there are (`turn`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from coordemu.explore.order import DIVERGED_VERDICT, Played
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.pytest_interleavings.hunt import Caught, HuntError, Searched, catch, file_of, play_again, search
from coordemu.pytest_interleavings.item_subject import KIND, ItemSubject
from coordemu.pytest_interleavings.section import TITLE, count_of, place_of, section
from coordemu.pytest_interleavings.settings import MARK, Settings
from coordemu.pytest_interleavings.storage import command, relative, save
from coordemu.runtime.sim_outcome import ERROR

_OWN_FRAMES = (f"{os.sep}coordemu{os.sep}runtime{os.sep}", f"{os.sep}coordemu{os.sep}pytest_interleavings{os.sep}")


@dataclass(frozen=True, slots=True)
class ReplayFile:
    """What ``--coordemu-replay`` names. path: as it was given."""

    path: str
    file: ScheduleFile


# Title and text of what a test's report gets.
SECTION = pytest.StashKey[tuple[str, str]]()


class Trial:
    """One test's turn. given: the order that is to be replayed instead of a search."""

    def __init__(self, item: pytest.Function, settings: Settings, given: ReplayFile | None) -> None:
        self._item = item
        self._settings = settings
        self._given = given
        self._played_given = False
        self._total = Searched(0, 0, None)
        self._looks = 0
        self._failed: tuple[ItemSubject, Searched] | None = None
        self._say_nothing()  # of an earlier turn, where something runs tests again

    def look(self, subject: ItemSubject) -> Played | None:
        """Search a subject's orders, or replay the given one. The order that fails, None when none does or when it was
        expected.

        Raises pytest's failure, with one line, when that cannot be done, and when none fails though one should.
        """
        if self._given is not None:
            return self._replay(subject, self._given)
        settings = self._settings
        try:
            searched = search(subject, settings)
        except HuntError as error:
            refuse(str(error))
        failed = searched.failed
        self._looks += 1
        self._total = replace(
            searched, orders=self._total.orders + searched.orders, steps=self._total.steps + searched.steps
        )
        words = count_of(self._total, settings, self._looks)
        if failed is None:
            if settings.expect is not None:
                refuse(f"{MARK}: none of {count_of(searched, settings)} is {settings.expect}")
            self._say("coordemu: orders", f"{words}: {searched.note or 'none fails'}")
            return None
        assert failed.failure is not None
        if failed.failure.kind == settings.expect:
            self._say("coordemu: the order that was expected", f"{words}: {failed.failure.sentence}")
            return None
        self._failed = (subject, searched)
        self._say_nothing()
        return failed

    def _replay(self, subject: ItemSubject, given: ReplayFile) -> Played | None:
        described = given.file.subject
        if described.get("kind") != KIND or not _same_test(str(described.get("name")), self._item.nodeid):
            refuse(f"{given.path} is an order of {described.get('name', described)}, not of {self._item.nodeid}")
        if described.get("example", "") != subject.example:
            return None
        self._played_given = True
        played = play_again(subject, given.file)
        if played.verdict == DIVERGED_VERDICT:
            refuse(f"{given.path} does not fit the test any more: {played.outcome.error}")
        if played.failure is None:
            self._say("coordemu: orders", f"the order of {given.path}, {played.steps} steps: passes")
            return None
        if played.failure.kind == self._settings.expect:
            return None
        self._failed = (subject, Searched(1, played.steps, played))
        return played

    def check_replayed(self) -> None:
        """Raises pytest's failure, with one line, when an order was given and no example of the test was its own."""
        if self._given is not None and not self._played_given:
            example = self._given.file.subject.get("example", "")
            refuse(f"{self._given.path} is an order of the example {example}, which did not come; name it by @example")

    def explain(self) -> Played | None:
        """Make the last order that failed small, save it, and have the report say so. Returns it as it is shown then;
        None when none failed."""
        if self._failed is None:
            return None
        item, settings = self._item, self._settings
        subject, searched = self._failed
        failed = searched.failed
        assert failed is not None
        of_example = f" of the example {subject.example}" if subject.example else ""
        if self._given is not None:
            again = command(item, f"--coordemu-replay={self._given.path}")
            self._say(TITLE, section(Caught(failed), f"the order of {self._given.path}", self._given.path, again))
            return failed
        # First as it is, so that an interrupted shrinking loses nothing.
        saved = save(item, file_of(subject, failed))
        try:
            caught = catch(subject, searched, lambda: _forget_output(item.config))
        except KeyboardInterrupt:
            # What was found is told before the run ends.
            caught = Caught(failed, searched)
            item.session.shouldstop = "interrupted while an order was made small"
        if caught.shrunk is not None:
            saved = save(item, file_of(subject, caught.played, caught.shrunk.sentence))
        if isinstance(saved, Path):
            shown = relative(item, saved)
            item.user_properties.append(("coordemu_schedule", shown))
            again = command(item, f"--coordemu-replay={shown}")
        else:
            shown = saved
            again = command(item, f"--coordemu-seed={settings.seed}", "--coordemu-save=DIR")
        self._say(TITLE, section(caught, place_of(searched, settings) + of_example, shown, again))
        return caught.played

    def _say_nothing(self) -> None:
        if SECTION in self._item.stash:
            del self._item.stash[SECTION]

    def _say(self, title: str, text: str) -> None:
        self._item.stash[SECTION] = (title, text)


def refuse(why: str) -> NoReturn:
    """Fail the test with one line and no traceback."""
    __tracebackhide__ = True
    raise pytest.fail.Exception(why, pytrace=False) from None


def raise_failure(played: Played) -> NoReturn:
    """Raise what failed: the exception itself, with the frames of the test; one line for what has none."""
    __tracebackhide__ = True
    failure, error = played.failure, played.outcome.error
    assert failure is not None
    if played.outcome.kind != ERROR or error is None:
        refuse(f"{failure.kind}: {failure.sentence}")
    frames = error.__traceback__
    while frames is not None and any(part in frames.tb_frame.f_code.co_filename for part in _OWN_FRAMES):
        frames = frames.tb_next
    raise error.with_traceback(frames)


def _same_test(one: str, other: str) -> bool:
    """Whether two node ids mean the same test; they begin at the root of the run, which may have been another."""
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def _forget_output(config: pytest.Config) -> None:
    """What earlier orders have printed is not this one's."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.read_global_capture()
    logging: Any = config.pluginmanager.getplugin("logging-plugin")
    if logging is not None:
        logging.report_handler.reset()
