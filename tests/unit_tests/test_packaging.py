"""What the package says of itself in several places is the same in all of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from langchain_qwen import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
NEEDED = [Requirement(text) for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["agents"]]]


def pinned(name: str) -> dict[str, Version]:
    """The versions in a file of constraints that hold on this Python."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {each.name: Version(str(each.specifier)[2:]) for each in found if not each.marker or each.marker.evaluate()}


def test_the_version_is_that_of_the_changelogs_newest_release():
    releases = re.findall(r"^## \[?(\d\S*?)\]?(?: |$)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert not releases or releases[0] == __version__


@pytest.mark.parametrize("need", NEEDED, ids=lambda need: need.name)
def test_the_tests_run_with_the_oldest_and_newest_versions_that_it_takes(need: Requirement):
    oldest, newest = pinned("constraints-oldest.txt")[need.name], pinned("constraints.txt").get(need.name)
    least = next(Version(each.version) for each in need.specifier if each.operator == ">=")
    assert oldest in need.specifier
    assert oldest.release[: len(least.release)] == least.release  # 2.7.4 is the least 2.7 that can be had
    if newest is not None:  # tomli is for Python 3.10 alone
        assert newest in need.specifier
        assert newest >= oldest


def test_every_python_that_is_promised_is_tested():
    named = {each.rsplit(" ", 1)[1] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)}
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert named == set(workflow["jobs"]["pythons"]["strategy"]["matrix"]["python"])
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert named == set(re.search(r"^PYTHONS \?= (.*)$", make, re.M)[1].split())
    assert PROJECT["requires-python"] == f">={min(named, key=Version)}"


def test_what_is_compiled_goes_into_wheels_alone():
    """A source distribution is for every machine."""
    build = SETTINGS["tool"]["hatch"]["build"]
    assert "custom" in build["targets"]["wheel"]["hooks"]
    assert "hooks" not in build
    assert "hooks" not in build["targets"]["sdist"]
