"""The wheels of `make wheels`, and an environment that has this machine's wheel [agents] and little else."""

from __future__ import annotations

import os
import subprocess
import venv
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import sys_tags

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
LEFT_OUT = {"torch", "transformers"}  # gigabytes that the CPU engine does not need

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def wheels() -> dict[str, Path]:
    """The wheels in dist/, by platform tag."""
    found = {wheel.stem.split("-")[-1]: wheel for wheel in (ROOT / "dist").glob("*.whl")}
    assert found, "there are no wheels in dist/: run make wheels"
    return found


@pytest.fixture(scope="session")
def wheel(wheels: dict[str, Path]) -> Path:
    """The one that pip would take on this machine."""
    return next(wheels[tag.platform] for tag in sys_tags() if tag.platform in wheels)


@pytest.fixture(scope="session")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of an environment with the wheel, far from the sources and with no other program on its PATH."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / "bin"
    with zipfile.ZipFile(wheel) as archive:
        (about,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        needed = map(Requirement, Parser().parsestr(archive.read(about).decode()).get_all("Requires-Dist"))
    here = [need for need in needed if not need.marker or need.marker.evaluate({"extra": "agents"})]
    wanted = [f"{need.name}{need.specifier}" for need in here if need.name not in LEFT_OUT]
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--only-binary", ":all:", "--constraint", CONSTRAINTS, *wanted], check=True)
    subprocess.run([*pip, "--no-deps", wheel], check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LANGCHAIN_QWEN"))}
    environment = {**kept, "PATH": str(programs), "HF_HUB_OFFLINE": "1", "LANGCHAIN_QWEN_CACHE": str(folder / "cache")}

    def run_there(program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [programs / program, *arguments], input=stdin, env=environment, cwd=folder,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    return run_there
