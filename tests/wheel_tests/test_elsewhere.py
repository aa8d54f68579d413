"""The libraries in the wheels for other platforms, run by emulators where these are installed.

A small program of C (tests/native/fuzz.c) is linked with the very library of a wheel. It runs random models on random
schedules; the bits must depend neither on the schedule nor on the kernels.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.wheel_tests.conftest import ROOT

TOOLS = ROOT / "build" / "tools" / "bin" / "python"
NATIVE = ROOT / "langchain_qwen" / "engine" / "runners" / "cpu" / "native"
ROUNDS = "4"
ARM = "qemu-aarch64-static"


def emulated(loader: str) -> list[str] | None:
    """The command before an ARM program, if the C library that it needs is there."""
    for root in ("/", "/usr/aarch64-linux-gnu"):
        if Path(root, loader.lstrip("/")).exists() and shutil.which(ARM):
            return [ARM, "-cpu", "max", "-L", root]
    return None


def there(loader: str) -> list[str] | None:
    return [] if Path(loader).exists() else None


# The command before the program, and what has to be installed; None where it is not.
EMULATORS = {
    "manylinux_2_17_x86_64": (there("/lib64/ld-linux-x86-64.so.2"), "an x86 machine with glibc"),
    "manylinux_2_17_aarch64": (emulated("/lib/ld-linux-aarch64.so.1"), f"{ARM} and libc6-arm64-cross"),
    "musllinux_1_2_x86_64": (there("/lib/ld-musl-x86_64.so.1"), "an x86 machine with musl"),
    "musllinux_1_2_aarch64": (emulated("/lib/ld-musl-aarch64.so.1"), f"{ARM} and musl:arm64"),
    "win_amd64": (["wine"] if shutil.which("wine") else None, "wine"),
    "macosx_11_0_arm64": (None, "a Mac"),
    "macosx_11_0_x86_64": (None, "a Mac"),
}


@pytest.mark.parametrize("tag", EMULATORS)
def test_its_engine_runs(wheels: dict[str, Path], tag: str, tmp_path: Path):
    command, needs = EMULATORS[tag]
    if tag not in wheels:
        pytest.skip("this wheel has not been built")
    if command is None:
        pytest.skip(f"needs {needs}")
    program = build(wheels[tag], tag, tmp_path)
    environment = {**os.environ, "WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    done = subprocess.run([*command, program, ROUNDS], capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same bits" in done.stdout
    kernels = done.stdout.split(":")[-1].split()
    assert len(kernels) > 1  # fast ones too, not the portable ones alone
    assert kernels[-1] == "portable"


def build(wheel: Path, tag: str, folder: Path) -> Path:
    """The program beside the wheel's library, which build_wheels.py unpacked and whose compiler it names."""
    compiler = ask_builder(
        "b.library_of(Path(wheel), Path(folder)); print(*b.compiler(tag), sep='\\n')", wheel, tag, folder
    )
    source = [f"-I{NATIVE}", "-O1", "-std=gnu11", str(ROOT / "tests" / "native" / "fuzz.c")]
    if not tag.startswith("win"):
        program = folder / "fuzz"
        link = ["-dynamic", "-L", str(folder), "-llangchain_qwen", "-Wl,-rpath,$ORIGIN", "-lm", "-lpthread"]
        subprocess.run([*compiler, *source, *link, "-o", str(program)], check=True)
        return program
    exported = ask_builder("print(*sorted(b.EXPORTED), sep='\\n')", wheel, tag, folder)
    definition = "\n".join(["LIBRARY liblangchain_qwen.dll", "EXPORTS", *exported, ""])
    (folder / "exports.def").write_text(definition, encoding="ascii")
    imports, program = folder / "liblangchain_qwen.lib", folder / "fuzz.exe"
    tool = [str(TOOLS), "-m", "ziglang", "dlltool", "-m", "i386:x86-64"]
    subprocess.run([*tool, "-d", str(folder / "exports.def"), "-l", str(imports)], check=True)
    subprocess.run([*compiler, *source, str(imports), "-o", str(program)], check=True)
    return program


def ask_builder(code: str, wheel: Path, tag: str, folder: Path) -> list[str]:
    """What build_wheels.py says, in the environment that it needs."""
    given = "import sys, build_wheels as b; from pathlib import Path; _, wheel, tag, folder = sys.argv; "
    command = [TOOLS, "-c", given + code, wheel, tag, folder]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
