"""The house's plan as a test: imports go one way, the seam holds, and three files alone import the compiled module."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"

# Lowest first. A part may import itself and those in rows above its own; parts in one row do not know each other,
# but for the pairs below.
ROWS: tuple[tuple[str, ...], ...] = (
    ("runtime", "resp_encode", "name_check", "_native"),
    ("native",),
    ("coord", "shards", "pool", "resilience", "explore"),
    ("lab",),
    ("report",),
    (
        *("cli", "cli_options", "cli_explore", "cli_pool", "cli_config", "cli_backfill"),
        *("pytest_plugin", "pytest_interleavings"),
    ),
)
NEIGHBOURS = {
    ("runtime", "_native"),
    ("cli", "cli_options"),
    ("cli", "cli_explore"),
    ("cli", "cli_pool"),
    ("cli", "cli_config"),
    ("cli", "cli_backfill"),
    ("cli_backfill", "cli_config"),
    ("cli_backfill", "cli_explore"),
    ("cli_backfill", "cli_options"),
    ("cli_config", "cli_options"),
    ("resilience", "pool"),
    ("cli_explore", "cli_options"),
    ("cli_pool", "cli_explore"),
    ("cli_pool", "cli_options"),
    ("pytest_plugin", "pytest_interleavings"),
}
# The recipe of the build, which nothing imports, and the package itself, which holds the version.
OUTSIDE = {"_build_native"}
SEAM = {"threading", "_thread", "time", "random", "selectors", "select", "socket", "greenlet"}

ROW_OF = {part: row for row, parts in enumerate(ROWS) for part in parts}


@dataclass(frozen=True)
class Import:
    """One imported module: by whom, in which line, and whether the type checker alone sees it."""

    importer: str
    line: int
    target: str
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_tree(root: Path) -> dict[str, list[Import]]:
    """Every module of the package under `root`, with its imports, also those inside functions."""
    paths = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    known = set(paths) | {module_name(path, root) for path in root.rglob("*.pyi")}
    return {name: imports_of(name, path, known) for name, path in paths.items()}


def imports_of(name: str, path: Path, known: set[str]) -> list[Import]:
    tree = ast.parse(path.read_text(), str(path))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            targets = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
        else:
            continue
        found += [Import(name, node.lineno, target, id(node) in for_types) for target in dict.fromkeys(targets)]
    return found


def part_of(module: str) -> str:
    """ "coordemu.coord.conn" is of the part "coord"; the package itself is of the part ""."""
    return [*module.split("."), ""][1]


def upward(tree: dict[str, list[Import]]) -> list[str]:
    """The imports that go the wrong way, or to or from a part without a row."""
    wrong = []
    for found in tree.values():
        for each in found:
            if each.target.split(".")[0] != "coordemu" or part_of(each.importer) in OUTSIDE:
                continue
            source, target = part_of(each.importer), part_of(each.target)
            if target in ("", source) or (source, target) in NEIGHBOURS:
                continue
            if source not in ROW_OF or target not in ROW_OF or ROW_OF[target] >= ROW_OF[source]:
                wrong.append(str(each))
    return wrong


def past_the_seam(tree: dict[str, list[Import]]) -> list[str]:
    """Imports of threads, time, chance and the network outside runtime/."""
    return [
        str(each)
        for found in tree.values()
        for each in found
        if each.target.split(".")[0] in SEAM and part_of(each.importer) != "runtime"
    ]


def cycles(tree: dict[str, list[Import]]) -> list[str]:
    """Circles of imports, those of the type checker left aside."""
    graph = {
        name: sorted({each.target for each in found if not each.for_types_only and each.target in tree} - {name})
        for name, found in tree.items()
    }
    done: set[str] = set()
    path: list[str] = []
    circles: list[str] = []

    def visit(name: str) -> None:
        if name in path:
            circles.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            path.append(name)
            for target in graph[name]:
                visit(target)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)
    return circles


@pytest.fixture(scope="module")
def tree() -> dict[str, list[Import]]:
    return read_tree(SRC)


def test_the_tree_is_read(tree: dict[str, list[Import]]) -> None:
    assert len(tree) > 50
    assert sum(map(len, tree.values())) > 200


def test_imports_go_one_way(tree: dict[str, list[Import]]) -> None:
    assert upward(tree) == []


def test_every_module_has_a_place(tree: dict[str, list[Import]]) -> None:
    assert {part_of(name) for name in tree} - set(ROW_OF) - OUTSIDE == {""}


def test_time_threads_chance_and_network_are_behind_the_seam(tree: dict[str, list[Import]]) -> None:
    assert past_the_seam(tree) == []


def test_three_files_alone_import_the_compiled_module(tree: dict[str, list[Import]]) -> None:
    importers = {each.importer for found in tree.values() for each in found if each.target == "coordemu._native"}
    assert importers == {"coordemu.native", "coordemu.runtime.thread_gate", "coordemu.runtime.quick_socket"}


def test_nothing_imports_the_recipe_or_cffi(tree: dict[str, list[Import]]) -> None:
    for found in tree.values():
        for each in found:
            assert each.target != "coordemu._build_native", each
            assert each.target.split(".")[0] != "cffi" or part_of(each.importer) in OUTSIDE, each


def test_no_circles(tree: dict[str, list[Import]]) -> None:
    assert cycles(tree) == []


def test_a_layer_never_asks_which_runtime_it_has(tree: dict[str, list[Import]]) -> None:
    """coord, pool and resilience know the protocols, and read the wait-for graph of none in particular."""
    allowed = {"coordemu.runtime.base"}
    for found in tree.values():
        for each in found:
            if part_of(each.importer) in {"coord", "pool", "resilience"} and part_of(each.target) == "runtime":
                assert each.target in allowed, each


# The checks themselves, on a tree that is wrong in every way.


@pytest.fixture
def wrong_tree(tmp_path: Path) -> dict[str, list[Import]]:
    files = {
        "__init__.py": "",
        "runtime/__init__.py": "",
        "runtime/base.py": "import time\nimport threading\n",
        "coord/__init__.py": "",
        "coord/a.py": "from coordemu.coord import b\nfrom coordemu.lab.run import x\nfrom time import monotonic_ns\n",
        "coord/b.py": "def late():\n    from .a import thing\n    import os, random\n",
        "coord/c.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from coordemu.coord.d import D\n    from coordemu.lab.run import R\n"
        ),
        "coord/d.py": "from coordemu.coord.c import C\nfrom coordemu.runtime.base import Runtime\n",
        "shards/s.py": "import coordemu.coord.a\n",
        "lab/run.py": "from coordemu.coord.d import D\n",
        "attic.py": "import coordemu.runtime.base\n",
    }
    for name, text in files.items():
        path = tmp_path / "coordemu" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_tree(tmp_path)


def test_the_checks_find_what_is_wrong(wrong_tree: dict[str, list[Import]]) -> None:
    assert upward(wrong_tree) == [
        "coordemu.attic:1 imports coordemu.runtime.base",
        "coordemu.coord.a:2 imports coordemu.lab.run",
        "coordemu.coord.c:4 imports coordemu.lab.run",
        "coordemu.shards.s:1 imports coordemu.coord.a",
    ]
    assert past_the_seam(wrong_tree) == [
        "coordemu.coord.a:3 imports time",
        "coordemu.coord.b:3 imports random",
    ]
    assert cycles(wrong_tree) == ["coordemu.coord.a -> coordemu.coord.b -> coordemu.coord.a"]
