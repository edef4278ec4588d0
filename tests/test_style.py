"""The rules of writing that a machine can check: how a file opens, what a docstring says, sizes, names with units."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "coordemu"
FILES = sorted(PACKAGE.rglob("*.py"))
WITH_ROLE = [path for path in FILES if path.name != "__init__.py"]

MAX_LINES = 500
MAX_C_LINES = 600  # of code: prose is not what makes C dangerous
OPENING_WORDS = ("Thread:", "Upstream:", "Left out:")
UNITS = r"_(ns|us|ms|s)"
DURATION = r"(timeout|interval|delay|duration|latency|deadline|period|jitter|elapsed|waited|uptime)"
UNITLESS_DURATION = re.compile(rf"(^|_){DURATION}$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def opening_faults(tree: ast.Module) -> list[str]:
    """What the docstring at the top of a file lacks."""
    prose = ast.get_docstring(tree)
    if prose is None:
        return ["no docstring"]
    faults = [f"does not say {word}" for word in OPENING_WORDS if word not in prose]
    return faults if len(prose.split()) >= 20 else [*faults, "says less than 20 words"]


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).split("[")[0].endswith("Protocol") for base in node.bases)


def is_bare(node: Function) -> bool:
    """A body of three dots: a protocol's member whose name and types say all."""
    return len(node.body) == 1 and ast.unparse(node.body[0]) == "..."


def is_a_repetition(node: Function) -> bool:
    """A setter or an overload repeats what has its docstring elsewhere."""
    names = [ast.unparse(each) for each in node.decorator_list]
    return any(name.endswith((".setter", "overload")) for name in names)


def without_docstring(tree: ast.Module) -> list[str]:
    """Public classes, functions and methods (at any depth of classes) that do not say what they are for."""
    found = []

    def look(body: list[ast.stmt], prefix: str, in_protocol: bool) -> None:
        for node in public(body):
            name = f"{prefix}{node.name}"
            exempt = not isinstance(node, ast.ClassDef) and (is_a_repetition(node) or (in_protocol and is_bare(node)))
            if not exempt and not (ast.get_docstring(node) or "").strip():
                found.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{name}.", is_protocol(node))

    look(tree.body, "", False)
    return found


def names_without_unit(tree: ast.Module) -> list[str]:
    """Numbers that are durations by name, as arguments or fields, and do not say of what unit."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            name, annotation = node.arg, node.annotation
        elif isinstance(node, ast.AnnAssign):
            name, annotation = ast.unparse(node.target).split(".")[-1], node.annotation
        else:
            continue
        if annotation and re.search(r"\b(int|float)\b", ast.unparse(annotation)) and UNITLESS_DURATION.search(name):
            found.append(f"{name}:{node.lineno}")
    return found


def units_not_last(tree: ast.Module) -> list[str]:
    """`timeout_ms_max` and the like: the unit stands at the end of a name, as in `timeout_max_ms`."""
    names = [(node.arg, node.lineno) for node in ast.walk(tree) if isinstance(node, ast.arg)]
    names += [(ast.unparse(n.target).split(".")[-1], n.lineno) for n in ast.walk(tree) if isinstance(n, ast.AnnAssign)]
    return [f"{name}:{line}" for name, line in names if re.search(rf"{DURATION}{UNITS}_", name)]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), relative(path))


@pytest.mark.parametrize("path", WITH_ROLE, ids=relative)
def test_a_file_opens_with_its_role(path: Path) -> None:
    assert opening_faults(parse(path)) == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=relative)
def test_a_package_says_what_it_holds(path: Path) -> None:
    assert ast.get_docstring(parse(path))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_what_is_public_has_a_docstring(path: Path) -> None:
    assert without_docstring(parse(path)) == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_durations_say_their_unit_last(path: Path) -> None:
    tree = parse(path)
    assert names_without_unit(tree) == []
    assert units_not_last(tree) == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_stays_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_words_that_stay_out(path: Path) -> None:
    """Redis' global lock is the module lock here, since the other name means Python's; and no loose ends."""
    text = path.read_text()
    for word in (r"\bGIL\b", r"\bTODO\b", r"\bFIXME\b", r"\bXXX\b", r"#\s*type:\s*ignore", r"^\s*except\s*:"):
        assert re.search(word, text, re.MULTILINE) is None, word
    assert "from __future__ import annotations" in text or path.name == "__init__.py"


def test_the_c_stays_small_and_free_of_python_and_globals() -> None:
    files = sorted((ROOT / "csrc").glob("*.[ch]"))
    code = [re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL) for path in files]
    assert sum(bool(line.strip()) for text in code for line in text.splitlines()) < MAX_C_LINES
    for path in files:
        text = path.read_text()
        assert "Python.h" not in text
        assert text.startswith("/* ")
        # at the margin, what ends with ";" and calls nothing is a variable, unless it is a type
        for line in re.findall(r"^(?:static\s+)?\w[\w \t*]*(?:=[^;]*)?;", text, re.MULTILINE):
            assert line.startswith(("typedef ", "struct ", "enum ")), f"{path.name}: {line}"


def test_no_test_can_be_skipped() -> None:
    word = "skip"
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for pattern in (rf"pytest\.{word}", rf"mark\.{word}", rf"importor{word}", rf"unittest\.{word}", r"mark\.xfail"):
            assert re.search(pattern, path.read_text()) is None, f"{relative(path)}: {pattern}"


# The checks themselves, on a file that breaks every rule.

BAD = '''
"""Too short. Thread: any."""
from typing import Protocol

class A:
    timeout: float
    delay_ms_max: int
    def method(self, reconnect_delay: int | None, deadline: str): ...
    def _own(self): ...
    class B:
        """Has one."""
        def inner(self): pass

class P(Protocol):
    """A protocol."""
    def bare(self) -> int: ...
    def with_body(self) -> int:
        return 1

def function(interval_ns: int):
    def nested(): pass
    return nested
'''


def test_the_checks_find_what_is_wrong() -> None:
    tree = ast.parse(BAD)
    assert opening_faults(tree) == ["does not say Upstream:", "does not say Left out:", "says less than 20 words"]
    assert [each.split(":")[0] for each in without_docstring(tree)] == [
        "A", "A.method", "A.B.inner", "P.with_body", "function",
    ]  # fmt: skip
    assert [each.split(":")[0] for each in names_without_unit(tree)] == ["timeout", "reconnect_delay"]
    assert [each.split(":")[0] for each in units_not_last(tree)] == ["delay_ms_max"]
    assert opening_faults(ast.parse("x = 1")) == ["no docstring"]
