"""Compiles the CPU engine's C sources into a plain shared library while the package is built or installed.

Without a C compiler the package still builds; it then runs models on the CPU through torch, and says so.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CPU = Path("langchain_qwen/engine/runners/cpu")
# -ffp-contract=off: sums must not depend on which tile width the compiler found worth fusing.
FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
SOURCES = {
    "check.c": [],
    "dispatch.c": [],
    "kernels_portable.c": [],
    "layout.c": [],
    "quantise.c": [],
    "step.c": [],
    "threads.c": [],
}


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


def compile_library(compiler: str, sources: Path, library: Path, extra: tuple[str, ...] = ()) -> None:
    """Compile each source with its own flags and link them."""
    jobs = dict(SOURCES)
    if platform.machine() in ("x86_64", "AMD64"):
        jobs["kernels_avx2.c"] = AVX2
    objects = []
    build = library.parent / "build"
    build.mkdir(exist_ok=True)
    for name, flags in jobs.items():
        objects.append(str(build / (name + ".o")))
        subprocess.run([compiler, *FLAGS, *flags, *extra, "-c", str(sources / name), "-o", objects[-1]], check=True)
    subprocess.run([compiler, "-shared", *extra, *objects, "-lm", "-lpthread", "-o", str(library)], check=True)
    shutil.rmtree(build)
