"""Compiles the CPU engine's C sources into a plain shared library while the package is built or installed.

Without a C compiler the package still builds; it then runs models on the CPU through torch, and says so.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CPU = Path("langchain_qwen/engine/runners/cpu")
# -ffp-contract=off: sums must not depend on which tile width the compiler found worth fusing.
FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
# The first line of a source that only some machines run: "// Built for MACHINE with FLAGS".
BUILT_FOR = re.compile(r"// Built for (\S+) with (.*)")


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds `liblangchain_qwen.so` and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, and mark the wheel as one for this platform."""
        library = Path(self.root) / CPU / "liblangchain_qwen.so"
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None or os.name != "posix":
            self.app.display_warning("no C compiler: building without the CPU engine (models run through torch)")
            return
        compile_library(compiler, Path(self.root) / CPU / "native", library)
        build_data["artifacts"].append(str(CPU / library.name))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_library(
    compiler: str, sources: Path, library: Path, extra: tuple[str, ...] = (), machine: str | None = None
) -> None:
    """Compile each source with its own flags and link them; kernels that the compiler cannot make are left out."""
    machine = machine or {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    objects: list[str] = []
    tables: list[str] = []
    build = library.parent / "build"
    build.mkdir(exist_ok=True)

    def compile_source(source: Path, *flags: str, check: bool) -> bool:
        object_file = str(build / f"{source.stem}.o")
        command = [compiler, *FLAGS, *flags, *extra, "-c", str(source), "-o", object_file]
        done = subprocess.run(command, check=check, stderr=None if check else subprocess.DEVNULL).returncode == 0
        if done:
            objects.append(object_file)
        return done

    for source in sorted((sources / "arch").glob("*.c")):
        first_line = source.read_text(encoding="utf-8").partition("\n")[0]
        built_for = BUILT_FOR.fullmatch(first_line)
        if built_for is None:
            compile_source(source, check=True)
        elif built_for[1] == machine and compile_source(source, *built_for[2].split(), check=False):
            tables.append(f"-DLQ_WITH_{source.stem.upper()}")
    for source in sorted(sources.glob("*.c")):
        compile_source(source, *tables, check=True)
    subprocess.run([compiler, "-shared", *extra, *objects, "-lm", "-lpthread", "-o", str(library)], check=True)
    shutil.rmtree(build)
