"""Schedule files: small, comparable line by line, saved all or nothing; whatever is wrong with one is one line."""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coordemu
from coordemu.explore.order import Failure, OrderPlan, Played, play
from coordemu.explore.program import ProgramSubject
from coordemu.explore.schedule_file import ScheduleFile
from coordemu.runtime.sim import SimRuntime
from coordemu.runtime.sim_schedule import Schedule, ScheduleError


def pool(rt: SimRuntime) -> None:
    """Four workers over a queue of twelve jobs."""
    lock, left = rt.lock("queue"), rt.cell(12, "jobs left")

    def work() -> None:
        while True:
            with lock:
                if left.value == 0:
                    return
                left.value -= 1

    for task in [rt.spawn(work, name=f"worker-{number}") for number in range(4)]:
        task.join()


def file_of(played: Played, **changes: Any) -> ScheduleFile:
    plain = ScheduleFile(
        {"kind": "program", "name": "pool"}, played.plan, played.verdict, played.failure, played.schedule
    )
    return replace(plain, **changes)


@pytest.fixture(scope="module")
def file() -> ScheduleFile:
    failure = Failure("lost", ("lost", "query"), "2 queries were lost")
    return file_of(play(ProgramSubject(pool), OrderPlan("pct3", 4, length=90)), failure=failure, note="for a test")


def test_it_comes_back(file: ScheduleFile, tmp_path: Path) -> None:
    path = file.save(tmp_path / "an.json")
    assert ScheduleFile.load(path) == file
    assert file.version == coordemu.__version__
    assert [each.name for each in tmp_path.iterdir()] == ["an.json"]


def test_it_is_small_and_says_in_words_what_it_is(file: ScheduleFile) -> None:
    text = file.text()
    assert len(file.schedule.steps) > 60
    assert len(text) < 2000
    for words in ('"verdict": "passed"', "2 queries were lost", "for a test", '["worker-0", ', '"acquire queue"'):
        assert words in text


def test_one_switch_more_changes_few_lines(file: ScheduleFile) -> None:
    steps = list(file.schedule.steps)
    at = next(number for number in range(20, len(steps)) if steps[number][0] == steps[number - 1][0])
    steps.insert(at, ("main", "look around"))
    other = replace(file, schedule=replace(file.schedule, steps=tuple(steps)))
    changed = [
        line
        for line in difflib.unified_diff(file.text().splitlines(), other.text().splitlines(), lineterm="", n=0)
        if line[0] in "+-" and line[1:2] not in "+-"
    ]
    assert 2 <= len(changed) <= 20


def test_saving_leaves_the_old_file_when_it_fails(file: ScheduleFile, tmp_path: Path) -> None:
    path = file.save(tmp_path / "an.json")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        replace(file, subject={"no": object()}).save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["an.json"]
    with pytest.raises(OSError, match="missing"):
        file.save(tmp_path / "missing" / "an.json")


def test_its_name_says_what_it_is_and_is_another_for_another_order(file: ScheduleFile) -> None:
    name = file.file_name()
    assert name.startswith("passed-pool-")
    assert name.endswith(".json")
    assert replace(file, note="other words").file_name() == name
    other = replace(file, schedule=replace(file.schedule, steps=file.schedule.steps[:-1]))
    assert other.file_name() != name
    spoken = replace(file, verdict="deadlocked", subject={"scenario": "MOD 11658", "policy": "../../x"})
    assert spoken.file_name().startswith("deadlocked-mod-11658-x-")


def complaint(path: Path) -> str:
    with pytest.raises(ScheduleError) as info:
        ScheduleFile.load(path)
    text = str(info.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON at line 1"),
        ("{", "is it truncated"),
        ("nothing of the kind", "not JSON"),
        ("[]", "not a schedule file"),
        ('{"version": 1}', "not a schedule file"),
        ("[" * 100_000, "not a schedule"),
        ('{"a": NaN}', "NaN"),
        ("9" * 5000, "not a schedule"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "an.json"
    path.write_text(text)
    assert words in complaint(path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "none.json")
    assert "directory" in complaint(tmp_path)
    path = tmp_path / "an.json"
    path.write_bytes(b'{"format": "\xff"}')
    assert "not UTF-8" in complaint(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 2; this coordemu reads version 1"),
        ({"version": True}, "version True"),
        ({"version": "1"}, "version '1'"),
        ({"format": "another"}, "not a schedule file"),
        ({"subject": None}, "its 'subject' is NoneType"),
        ({"verdict": 3}, "its 'verdict' is int"),
        ({"failure": "yes"}, "its 'failure' is str"),
        ({"failure": {"kind": "lost", "signature": [], "sentence": ""}}, "no kind, signature or sentence"),
        ({"failure": {"kind": "lost", "signature": ["a"]}}, "no kind, signature or sentence"),
        ({"plan": {"strategy": "random"}}, "its plan's 'seed' is None"),
        ({"steps": 3}, "step 4 is one more than the 3"),
        ({"steps": 9999}, "of 9999 is missing"),
        ({"segments": [["main", 999]]}, "step 1, of 'main', is 999"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], words: str, file: ScheduleFile, tmp_path: Path) -> None:
    path = tmp_path / "an.json"
    path.write_text(json.dumps({**json.loads(file.text()), **change}))
    assert words in complaint(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clock": "slow"}, "clock 'slow' is none of"),
        ({"chances": 2}, "chances 2"),
        ({"length": 0}, "length 0"),
        ({"seed": True}, "'seed' is True"),
        ({"strategy": None}, "'strategy' is None"),
        ({"more": 1}, "unknown fields of a plan: more"),
    ],
)
def test_a_wrong_plan_is_named(change: dict[str, Any], words: str, file: ScheduleFile, tmp_path: Path) -> None:
    fields = json.loads(file.text())
    fields["plan"].update(change)
    path = tmp_path / "an.json"
    path.write_text(json.dumps(fields))
    assert words in complaint(path)


def test_every_field_is_missed(file: ScheduleFile, tmp_path: Path) -> None:
    fields = json.loads(file.text())
    path = tmp_path / "an.json"
    for key in set(fields) - {"format", "version"}:
        path.write_text(json.dumps({name: value for name, value in fields.items() if name != key}))
        assert f"it has no {key!r}: is it truncated?" in complaint(path)


def test_a_file_cut_off_anywhere_is_refused(file: ScheduleFile) -> None:
    data = file.text().encode()
    whole = len(data.rstrip())
    for length in range(whole):
        with pytest.raises(ScheduleError, match=r"^not JSON|^not a schedule"):
            ScheduleFile.parse(data[:length])
    assert ScheduleFile.parse(data[:whole]) == file


def parsed_or_refused(data: str | bytes) -> ScheduleFile | str:
    """The file, or the one line that refuses it; never anything else."""
    try:
        return ScheduleFile.parse(data)
    except ScheduleError as error:
        text = str(error)
    assert text
    assert "\n" not in text
    return text


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_byte_changed_anywhere_is_refused_or_loads(file: ScheduleFile, data: st.DataObject) -> None:
    raw = bytearray(file.text().encode())
    raw[data.draw(st.integers(0, len(raw) - 1), label="at")] = data.draw(st.integers(0, 255), label="byte")
    found = parsed_or_refused(bytes(raw))
    assert isinstance(found, str) or len(found.schedule.steps) == len(file.schedule.steps)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLANS = st.builds(
    OrderPlan,
    WORDS,
    st.integers(0, 2**60),
    st.sampled_from(["idle", "explored"]),
    st.integers(),
    st.floats(0, 1),
    st.integers(1, 10**6),
)
FAILURES = st.builds(Failure, WORDS, st.lists(WORDS, min_size=1, max_size=3).map(tuple), WORDS)


@given(
    st.dictionaries(WORDS, WORDS | st.integers() | st.lists(st.booleans())),
    PLANS,
    WORDS,
    st.none() | FAILURES,
    WORDS,
    st.lists(st.tuples(st.sampled_from(["main", "worker-1", "pick", "…\n"]), WORDS)),
)
@settings(max_examples=150, deadline=None)
def test_any_file_comes_back(
    subject: dict[str, Any],
    plan: OrderPlan,
    verdict: str,
    failure: Failure | None,
    note: str,
    steps: list[tuple[str, str]],
) -> None:
    schedule = Schedule("random 3", plan.clock, tuple(steps))
    file = ScheduleFile(subject, plan, verdict, failure, schedule, note)
    assert ScheduleFile.parse(file.text()) == file
    assert ScheduleFile.parse(file.text().encode()) == file


@given(st.recursive(st.none() | st.booleans() | st.integers() | WORDS, lambda inner: st.lists(inner, max_size=3)))
@settings(max_examples=100, deadline=None)
def test_any_other_value_for_a_field_is_refused_or_loads(value: object) -> None:
    fields = json.loads(file_of(play(ProgramSubject(pool), OrderPlan())).text())
    for key in fields:
        parsed_or_refused(json.dumps({**fields, key: value}))
