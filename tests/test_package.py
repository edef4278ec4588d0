"""What the package says of itself. That an sdist builds, and a wheel from it runs, is checked by .ci/run."""

from __future__ import annotations

import importlib.metadata
import re
import stat
import tomllib
from pathlib import Path

import pytest

import coordemu

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version() -> None:
    assert coordemu.__version__ == PROJECT["project"]["version"]
    assert re.search(rf"^## .*{re.escape(coordemu.__version__)}", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_package_is_typed() -> None:
    assert (Path(coordemu.__file__).parent / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["coordemu"]


def test_license_and_notice_are_shipped() -> None:
    assert PROJECT["project"]["license"] == "MIT"
    assert PROJECT["project"]["license-files"] == ["LICENSE", "NOTICE"]
    assert "coordemu contributors" in (ROOT / "LICENSE").read_text()
    notice = (ROOT / "NOTICE").read_text()
    for name in ("RediSearch", "RSALv2", "SSPLv1", "AGPLv3", "hiredis", "go-redis"):
        assert name in notice


def test_the_sdist_has_all_that_a_build_needs() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text().splitlines()
    assert "graft csrc" in manifest
    assert "graft tests" in manifest
    assert not any(path.suffix in {".so", ".o"} for path in (ROOT / "csrc").iterdir())


@pytest.mark.parametrize("name", ["cffi", "click", "hiredis", "psutil", "rich"])
def test_dependencies_have_lower_bounds(name: str) -> None:
    found = [line for line in PROJECT["project"]["dependencies"] if re.match(rf"{name}\b", line)]
    assert len(found) == 1
    assert ">=" in found[0]


def test_cffi_is_bounded_alike_at_build_and_run_time() -> None:
    """The build relies on something that cffi does not promise, so a new major version must not come in by itself."""
    bound = next(line for line in PROJECT["project"]["dependencies"] if line.startswith("cffi"))
    assert bound.endswith(",<3")
    assert bound in PROJECT["build-system"]["requires"]


def test_the_installed_package_is_this_one() -> None:
    """`make test` installs in place, so that what is tested is what is in the tree."""
    distribution = importlib.metadata.distribution("coordemu")
    assert distribution.version == coordemu.__version__
    entry_points = {(each.group, each.name, each.value) for each in distribution.entry_points}
    assert ("console_scripts", "coordemu", "coordemu.cli:main") in entry_points
    assert ("pytest11", "coordemu", "coordemu.pytest_plugin") in entry_points
    for each in distribution.entry_points:
        assert callable(each.load()) or each.group == "pytest11"


@pytest.mark.parametrize("name", [".ci/run", ".ci/sanitize"])
def test_scripts_can_be_run(name: str) -> None:
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR
    assert (ROOT / name).read_text().startswith("#!/usr/bin/env bash\n")


def test_make_has_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "bench", "sanitize", "lint", "clean"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
