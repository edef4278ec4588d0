"""The examples run where they are and wherever they are copied to, and are short enough to be read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.glob("test_*.py"))
PLUGIN = ("-p", "no:coordemu", "-p", "coordemu.pytest_plugin")


def test_there_are_three() -> None:
    assert len(FILES) == 3
    said = (EXAMPLES / "README.md").read_text()
    for path in FILES:
        assert f"`{path.name}`" in said


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_can_be_copied(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 40
    # What a user has: the installed package, and pytest.
    modules = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
    assert set(modules) <= {"pytest", "coordemu"}


def test_copied_elsewhere(pytester: pytest.Pytester, footprint: Any) -> None:
    for path in FILES:
        shutil.copy(path, pytester.path)
    result = pytester.runpytest_subprocess(*PLUGIN, "-W", "error", "--strict-markers", "-rP", timeout=50)
    result.assert_outcomes(passed=9)
    # Those that are to be found are found as what they are, and what survives was played.
    text = result.stdout.str()
    assert text.count("coordemu: the order that was expected") == 5
    assert len(re.findall(r"^\d+ orders \(portfolio, seed 0\), \d+ steps: none fails$", text, re.MULTILINE)) == 4
    assert "main waits for barrier 'workers: run again', which misses workers-" in text


def test_from_a_checkout_with_other_seeds(pytester: pytest.Pytester, footprint: Any) -> None:
    options = (*PLUGIN, "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"))
    result = pytester.runpytest_subprocess(*options, str(EXAMPLES), "--coordemu-seed=11", timeout=50)
    result.assert_outcomes(passed=9)


def test_the_readme_s_tests_run(pytester: pytest.Pytester, footprint: Any) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    pytester.makepyfile("import pytest\n\n" + "\n\n".join(blocks))
    result = pytester.runpytest_subprocess(*PLUGIN, "-W", "error", "--strict-markers", timeout=50)
    result.assert_outcomes(passed=3)
