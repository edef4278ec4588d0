"""The orders in examples/schedules-pool: each still plays, step by step, and shows its fault; mended, it shows none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordemu.explore.order import play
from coordemu.explore.replay import difference, replay
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.lab.client_pool_subject import ClientPoolSubject
from coordemu.lab.subjects import subject_from
from coordemu.pool.issue_recipes import ISSUE_RECIPES
from coordemu.pool.pool_conn_state import MOVES
from coordemu.pool.pool_faults import POOL_FAULTS
from coordemu.pool.pool_recipe_list import SHOWN

DIRECTORY = Path(__file__).resolve().parents[1] / "examples" / "schedules-pool"
PAGE = DIRECTORY.parents[1] / "docs" / "client-pool.md"
FILES = sorted(DIRECTORY.glob("*.json"))
AGAIN = "the pool has changed: `python bench/pool_orders.py files` searches these orders anew"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_saved_order_shows_its_fault(path: Path) -> None:
    file = ScheduleFile.load(path)
    subject = subject_from(file.subject)
    assert isinstance(subject, ClientPoolSubject)
    assert path.stem == f"{subject.scenario.recipe.name}-{subject.faults[0]}"
    played = replay(subject, file)
    assert difference(file, played) == "", AGAIN
    assert file.failure is not None
    assert played.failure == file.failure
    assert play(ClientPoolSubject(subject.scenario.name), file.plan).failure is None


def test_every_fault_has_its_file() -> None:
    assert {path.stem for path in FILES} == {f"{name}-{fault}" for name, fault in SHOWN}
    assert {fault for _, fault in SHOWN} == set(POOL_FAULTS)


def test_the_page_has_the_table_and_every_fault() -> None:
    page = PAGE.read_text()
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_, ]*)\|", page, re.MULTILINE)
    moves = {source: {to.strip() for to in targets.split(",") if to.strip()} for source, targets in rows}
    assert moves == {source.value: {to.value for to in targets} for source, targets in MOVES.items()}
    arrows = re.findall(r"^    (\w+) --> (\w+)", page, re.MULTILINE)
    assert sorted(arrows) == sorted((source, to) for source, targets in moves.items() for to in targets)
    for name, fault in SHOWN:
        assert f"`{fault}`" in page
        assert name in page
    for recipe in ISSUE_RECIPES:
        assert f"`pool-{recipe.name}`" in page
