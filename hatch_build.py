"""Compiles the CPU engine's C sources into a plain shared library while the package is built or installed.

Without a C compiler the package still builds; it then runs models on the CPU through torch, and says so. To build for
another machine, CC is a compiler for it and _PYTHON_HOST_PLATFORM its platform, as usual for cross builds of Python
packages; build_wheels.py does that.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from platform import machine as this_machine
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CPU = Path("langchain_qwen/engine/runners/cpu")
# -ffp-contract=off: sums must not depend on which tile width the compiler found worth fusing.
FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
# The first line of a source that only some machines run: "// Built for MACHINE with FLAGS".
BUILT_FOR = re.compile(r"// Built for (\S+) with (.*)")
# How platforms name their machines, and our sources.
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the library and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one for its platform."""
        compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if compiler is None or (os.name != "posix" and "CC" not in os.environ):
            self.app.display_warning("no C compiler: building without the CPU engine (models run through torch)")
            return
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")  # _PYTHON_HOST_PLATFORM where it is set
        suffix = ".dll" if tag.startswith("win") else ".dylib" if tag.startswith("macosx") else ".so"
        library = Path(self.root, CPU, f"liblangchain_qwen{suffix}")
        made = library
        if version != "editable":  # that one runs from here
            self._folder = tempfile.TemporaryDirectory()
            made = Path(self._folder.name, library.name)
            build_data["force_include"][str(made)] = str(library.relative_to(self.root))
        elsewhere = "_PYTHON_HOST_PLATFORM" in os.environ
        compile_library(
            shlex.split(compiler), Path(self.root, CPU, "native"), made, platform=tag, all_kernels=elsewhere
        )
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Delete what is in the wheel now."""
        if version != "editable" and hasattr(self, "_folder"):
            self._folder.cleanup()


def flags_for(compiler: list[str], flags: str) -> list[str]:
    """A source's own flags; Zig names a processor with its features where others name an architecture."""
    return (flags.replace("-march=armv8.2-a", "-mcpu=generic") if "ziglang" in compiler else flags).split()


def compile_library(
    compiler: list[str], sources: Path, library: Path, *, platform: str = "", all_kernels: bool = False
) -> None:
    """Compile each source with its own flags and link them.

    Args:
        compiler: The command, without the files.
        sources: The folder `native`.
        library: What to make.
        platform: A wheel's tag for it; this machine's without.
        all_kernels: Whether kernels that the compiler cannot make are an error, or left out.
    """
    machine = next((name for name in MACHINES if platform.endswith(name)), None) or this_machine()
    machine = MACHINES.get(machine, machine)
    objects: list[str] = []
    tables: list[str] = []
    build = library.resolve().parent / "build"
    build.mkdir(exist_ok=True)

    def compile_source(source: Path, *flags: str, check: bool) -> bool:
        object_file = str(build / f"{source.stem}.o")
        # From its folder, so that no path of this machine gets into the library.
        command = [*compiler, *FLAGS, *flags, "-c", str(source.relative_to(sources)), "-o", object_file]
        stderr = None if check else subprocess.DEVNULL
        done = subprocess.run(command, cwd=sources, check=check, stderr=stderr).returncode == 0
        if done:
            objects.append(object_file)
        return done

    for source in sorted((sources / "arch").glob("*.c")):
        first_line = source.read_text(encoding="utf-8").partition("\n")[0]
        built_for = BUILT_FOR.fullmatch(first_line)
        if built_for is None:
            compile_source(source, check=True)
        elif built_for[1] == machine:
            if compile_source(source, *flags_for(compiler, built_for[2]), check=all_kernels):
                tables.append(f"-DLQ_WITH_{source.stem.upper()}")
            else:
                print(f"{source.name}: {compiler[0]} cannot make these kernels; they are left out")  # noqa: T201
    for source in sorted(sources.glob("*.c")):
        compile_source(source, *tables, check=True)
    # Windows' threads are in its own library, which is always linked.
    libraries = [] if platform.startswith("win") else ["-lm", "-lpthread"]
    subprocess.run([*compiler, "-shared", *objects, *libraries, "-o", str(library.resolve())], check=True)
    shutil.rmtree(build)
