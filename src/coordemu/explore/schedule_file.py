"""ScheduleFile: one order of one subject as a file that a person can read, and `coordemu replay` can run.

Role: what a search saves, a shrinker rewrites and a bug report carries. JSON with a header, one field per line: the
format's version, the coordemu that wrote it, the subject (as it describes itself), the plan, the verdict, the failure,
a note; then the steps, one line per segment (`coordemu.explore.phrases`), so that two files can be compared by any
tool. Whatever is wrong with a file is one line, a ScheduleError, that names the file, and the step if it is one's.

Thread: any. Upstream: none. Left out: which subject a description means (`coordemu.lab.subjects`), and running it
(`coordemu.explore.replay`). Bounds: MAX_BYTES.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import coordemu
from coordemu.explore.order import Failure, OrderPlan
from coordemu.explore.phrases import fold, unfold
from coordemu.runtime.sim_schedule import Schedule, ScheduleError

FORMAT = "coordemu schedule"
FILE_VERSION = 1
MAX_BYTES = 64 * 1024 * 1024

_PLAN_TYPES: dict[str, type] = {
    "strategy": str,
    "seed": int,
    "clock": str,
    "rt_seed": int,
    "chances": float,
    "length": int,
}


@dataclass(frozen=True, slots=True)
class ScheduleFile:
    """An order and what it showed.

    subject: `Subject.describe()`, plain values.  plan: the clock, chance and seed it ran with.  failure: None when it
    passed.  schedule: the steps.  note: for the reader, one line or none.  version: of the coordemu that wrote it.
    """

    subject: Mapping[str, Any]
    plan: OrderPlan
    verdict: str
    failure: Failure | None
    schedule: Schedule
    note: str = ""
    version: str = coordemu.__version__

    def text(self) -> str:
        """What stands in the file."""
        phrases, segments = fold(self.schedule.steps)
        header = {
            "format": FORMAT,
            "version": FILE_VERSION,
            "coordemu": self.version,
            "subject": dict(self.subject),
            "plan": self.plan.to_json(),
            "verdict": self.verdict,
            "failure": None if self.failure is None else self.failure.to_json(),
            "note": self.note,
            "chosen_by": self.schedule.strategy,
            "steps": len(self.schedule.steps),
        }
        lines = [f"{_json(key)}: {_json(value)}" for key, value in header.items()]
        named = [f"{_json(number)}: {_json(labels)}" for number, labels in phrases.items()]
        lines.append('"phrases": ' + _lines("{", named, "}"))
        lines.append('"segments": ' + _lines("[", [_json(segment) for segment in segments], "]"))
        return _lines("{", lines, "}") + "\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it, all or nothing: a temporary file beside it that takes its name. Returns the path. Raises OSError.

        Blocks for the disk.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(self.text(), encoding="utf-8")
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ScheduleFile:
        """Read one. Raises ScheduleError, one line with the file's name, for whatever is wrong. Blocks for the disk."""
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ScheduleError(f"{path}: cannot be read: {error.strerror or error}") from None
        if len(data) > MAX_BYTES:
            raise ScheduleError(f"{path}: more than {MAX_BYTES} bytes, which no schedule file has")
        try:
            return cls.parse(data)
        except ScheduleError as error:
            raise ScheduleError(f"{path}: {error}") from None

    @classmethod
    def parse(cls, data: str | bytes) -> ScheduleFile:
        """What `text` made. Raises ScheduleError, one line, for anything else."""
        fields = _fields(data)
        plan = _plan(_field(fields, "plan", dict))
        failure = _field(fields, "failure", dict, type(None))
        # In this order: whoever looks at a broken file wants the steps complained of only when the rest is in order.
        subject = _field(fields, "subject", dict)
        verdict = _field(fields, "verdict", str)
        note = _field(fields, "note", str)
        version = _field(fields, "coordemu", str)
        chosen_by = _field(fields, "chosen_by", str)
        shown = None if failure is None else _failure(failure)
        steps = unfold(*(_field(fields, key, object) for key in ("phrases", "segments", "steps")))
        return cls(subject, plan, verdict, shown, Schedule(chosen_by, plan.clock, steps), note, version)

    def file_name(self) -> str:
        """A name for it: the verdict, the subject's own name, and a digest of what it holds, so that two orders differ
        and the same order saved twice is one file."""
        said = [
            self.verdict,
            *(str(self.subject[key]) for key in ("scenario", "name", "policy") if key in self.subject),
        ]
        words = [re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:40] for word in said]
        digest = hashlib.sha256(repr((dict(self.subject), asdict(self.plan), self.schedule.steps)).encode())
        return "-".join([word for word in words if word] + [digest.hexdigest()[:8]]) + ".json"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(begin: str, lines: list[str], end: str) -> str:
    return "\n".join([begin, ",\n".join(lines), end]) if lines else begin + end


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of a schedule")


def _fields(data: str | bytes) -> Mapping[str, Any]:
    """The file's object, if it is a schedule file of this version."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        found = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        ends = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        why = "it ends too soon: is it truncated?" if ends else error.msg
        raise ScheduleError(f"not JSON at line {error.lineno}, column {error.colno}: {why}") from None
    except UnicodeDecodeError as error:
        raise ScheduleError(f"not text: byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ScheduleError(f"not a schedule: {error}".splitlines()[0]) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ScheduleError("not a schedule file of coordemu")
    version = found.get("version")
    if version != FILE_VERSION or isinstance(version, bool):
        raise ScheduleError(f"a schedule file of version {version!r}; this coordemu reads version {FILE_VERSION}")
    return found


def _field(fields: Mapping[str, Any], key: str, *types: type) -> Any:
    if key not in fields:
        raise ScheduleError(f"it has no {key!r}: is it truncated?")
    if not isinstance(fields[key], types):
        raise ScheduleError(f"its {key!r} is {type(fields[key]).__name__}, which it should not be")
    return fields[key]


def _plan(fields: Mapping[str, Any]) -> OrderPlan:
    for key, wanted in _PLAN_TYPES.items():
        value = fields.get(key)
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise ScheduleError(f"its plan's {key!r} is {value!r}")
    if not 0 <= fields["chances"] <= 1 or fields["length"] < 1:
        raise ScheduleError(f"its plan has chances {fields['chances']} and length {fields['length']}")
    try:
        return OrderPlan.from_json(fields)
    except ValueError as error:
        raise ScheduleError(f"its plan is not one: {error}".splitlines()[0]) from None


def _failure(fields: Mapping[str, Any]) -> Failure:
    signature = fields.get("signature")
    words = (fields.get("kind"), fields.get("sentence"))
    listed = isinstance(signature, list) and bool(signature) and all(isinstance(part, str) for part in signature)
    if not listed or not all(isinstance(word, str) for word in words):
        raise ScheduleError("its failure has no kind, signature or sentence")
    return Failure.from_json(fields)
