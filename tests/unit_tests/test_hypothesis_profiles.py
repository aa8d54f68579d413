"""The profiles of tests/hypothesis_profiles.py do what they say: `ci` repeats itself, `fuzz` runs long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hypothesis_profiles import FUZZ_FACTOR

PROPERTY = """
from hypothesis import given, settings
from hypothesis import strategies as st

seen = []


@settings(max_examples=12)
@given(st.integers(0, 10**9))
def test_anything(number):
    seen.append(number)


class TestInAClass:
    @settings(max_examples=3)
    @given(st.integers(0, 10**9))
    def test_anything(self, number):
        seen.append(number)


def test_report():
    open({out!r}, "w").write(repr(seen))
"""


def examples(folder: Path, *options: str, **environment: str) -> list[int]:
    """What a property with 12 examples and one with 3 saw in a process of their own."""
    (folder / "test_property.py").write_text(PROPERTY.format(out=str(folder / "seen")))
    (folder / "conftest.py").write_text(
        "from tests.hypothesis_profiles import lengthen as pytest_collection_modifyitems\n"
    )
    inherited = {name: v for name, v in os.environ.items() if name not in ("CI", "LANGCHAIN_QWEN_HYPOTHESIS")}
    # Without the other plugins, which take seconds to import.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "_hypothesis_pytestplugin", "--rootdir", str(folder)]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, inherited.get("PYTHONPATH"))))
    environment = {**inherited, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    command += [*options, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return eval((folder / "seen").read_text())


def test_ci_sees_the_same_examples_each_time(tmp_path):
    assert examples(tmp_path, CI="1") == examples(tmp_path, CI="1")


@pytest.mark.parametrize(
    ("options", "environment"),
    [([], {"LANGCHAIN_QWEN_HYPOTHESIS": "fuzz"}), (["--hypothesis-profile=fuzz"], {})],
    ids=["by the environment", "by the option"],
)
def test_fuzz_runs_long(tmp_path, options, environment):
    assert len(examples(tmp_path, *options, **environment)) == 15 * FUZZ_FACTOR


def test_everyday_takes_what_the_tests_say(tmp_path):
    assert len(examples(tmp_path)) == 15
