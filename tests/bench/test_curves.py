"""The plots' data in its smallest size, the page that is made of it, and the same files from the same data."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import draw  # noqa: E402
from bench.curves import measure  # noqa: E402
from bench.measure import SMOKE  # noqa: E402

KEPT = ROOT / "docs" / "benchmarks" / "curves.json"


def run_draw(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "bench/draw.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return json.loads(json.dumps(measure(SMOKE, lambda line: None)))


def test_every_plot_has_its_curves_and_a_sentence(measured: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "curves.json"
    file.write_text(json.dumps(measured))
    data, by_plot = draw.read(file)
    assert set(by_plot) == {plot.key for plot in draw.PLOTS}
    for plot in draw.PLOTS:
        lines = by_plot[plot.key]
        assert len(lines) >= 2
        for points in lines.values():
            assert len(points) == (1 if plot.bars else 2)
            assert all(0 < low <= median <= high for median, low, high in points.values())
        assert re.search(r"\d", plot.say(lines))
    page = draw.page(data, by_plot)
    assert page.count("![") == len(draw.PLOTS)
    assert "effort smoke" in page


def test_the_page_that_is_kept_is_made_of_the_data_that_is_kept() -> None:
    data, by_plot = draw.read(KEPT)
    assert (ROOT / "docs" / "benchmarks.md").read_text() == draw.page(data, by_plot)
    for plot in draw.PLOTS:
        picture = (KEPT.parent / f"{plot.key}.svg").read_text()
        assert plot.title in picture
        for name in by_plot[plot.key]:
            assert name in picture.replace("&gt;", ">")
    assert KEPT.stat().st_size < 20_000


def test_the_same_data_give_the_same_pictures(tmp_path: Path) -> None:
    """Without the extra, one line says what to install."""
    for directory in ("a", "b"):
        done = run_draw(str(KEPT), str(tmp_path / directory))
        if importlib.util.find_spec("matplotlib") is None:
            assert done.returncode == 3
            assert done.stderr.endswith("install the extra: pip install -e '.[bench]'\n")
            return
        assert (done.returncode, done.stderr) == (0, "")
    for plot in draw.PLOTS:
        one, other = ((tmp_path / directory / "benchmarks" / f"{plot.key}.svg").read_bytes() for directory in "ab")
        assert one == other


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 0}'])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "some.json").write_text(content)
    done = run_draw(str(tmp_path / "some.json"), str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
