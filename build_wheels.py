"""Builds the package's wheels for all platforms on one machine, with the compiler of the package `ziglang`.

    python build_wheels.py FOLDER [TAG...]    build those, or all, into FOLDER, and check each

The tag "here" stands for this machine's. hatch_build.py compiles; this names the targets. It needs hatchling, ziglang,
auditwheel and lief: `make wheels` has them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import lief
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parent
GLIBC_MINOR = 17
# A wheel's platform tag, and what Zig calls it. glibc 2.17 is that of manylinux 2014; macOS 11 the first on ARM.
TARGETS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
}
# What a library may need of its system: the C library. With musl that is one file without versions, all of the policy.
SYSTEM = re.compile(
    r"lib(c|m)\.so\.6|libpthread\.so\.0|/usr/lib/libSystem\.B\.dylib|KERNEL32\.dll|api-ms-win-crt-.*\.dll"
)
MUSL = re.compile(r"libc\.so")
# What Python calls.
EXPORTED = {
    name
    for source in (ROOT / "langchain_qwen/engine/runners/cpu/native").glob("*.c")
    for name in re.findall(r"^EXPORT [^(]*?(lq_\w+)\(", source.read_text(), re.MULTILINE)
}
LINKERS = {"__dso_handle", "_mh_dylib_header"}  # marks that every library for macOS has


def here() -> str:
    """The tag of the wheel that pip would take on this machine."""
    return next(tag.platform for tag in sys_tags() if tag.platform in TARGETS)


def compiler(tag: str) -> list[str]:
    """The C compiler for a platform; its output has no symbols for debuggers."""
    # Else the library names the folder that it was built in.
    name = ["-Wl,-install_name,@rpath/liblangchain_qwen.dylib"] if tag.startswith("macosx") else []
    return [sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[tag], "-s", *name]


def build(tag: str, folder: Path) -> Path:
    """Build the wheel of a platform and return its file."""
    environment = {**os.environ, "CC": " ".join(compiler(tag)), "_PYTHON_HOST_PLATFORM": tag}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder.resolve())]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob(f"*-{tag}.whl")
    return wheel


def library_of(wheel: Path, folder: Path) -> Path:
    """Unpack the wheel's library into a folder."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if re.search(r"\.(so|dylib|dll)$", name)]
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / Path(name).name
        library.write_bytes(archive.read(name))
    return library


def faults(wheel: Path, tag: str, folder: Path) -> list[str]:
    """What is wrong with a wheel: its tags, and what its library shows, needs and tells of this machine."""
    found = []
    tags = {str(tag) for tag in parse_wheel_filename(wheel.name)[3]}
    with zipfile.ZipFile(wheel) as archive:
        if broken := archive.testzip():
            found.append(f"{broken} is damaged")
        (about,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        fields = Parser().parsestr(archive.read(about).decode())
        foreign = [name for name in archive.namelist() if not name.startswith(("langchain_qwen/", "langchain_qwen-"))]
    if tags != {f"py3-none-{tag}"} or fields.get_all("Tag") != sorted(tags):
        found.append(f"its tags are {tags} and {fields.get_all('Tag')}")
    if fields["Root-Is-Purelib"] != "false":
        found.append("it says that it is for every platform")
    if foreign:
        found.append(f"it holds {foreign}")
    library = library_of(wheel, folder / tag)
    binary = lief.parse(str(library))
    shown = {str(function.name).removeprefix("_") for function in binary.exported_functions} - LINKERS
    if shown != EXPORTED:
        found.append(f"its library shows {sorted(shown)}, which differs in {sorted(shown ^ EXPORTED)}")
    system = MUSL if tag.startswith("musl") else SYSTEM
    needed = {str(getattr(needs, "name", needs)) for needs in binary.libraries} - {f"@rpath/{library.name}"}
    if strange := [name for name in needed if not system.fullmatch(name)]:
        found.append(f"its library needs {strange}")
    if any(str(place).encode() in library.read_bytes() for place in (ROOT.resolve(), Path.home(), "/tmp/")):
        found.append("its library names folders of the machine that built it")
    if tag.startswith("manylinux"):
        audit = subprocess.run([sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True)
        least = re.search(r'"manylinux_2_(\d+)_', audit.stdout)
        if least is None or int(least[1]) > GLIBC_MINOR:
            found.append(f"auditwheel says: {audit.stdout}{audit.stderr}")
    return found


def main() -> None:
    """Build and check; see the top of the file."""
    lief.logging.disable()
    folder, chosen = Path(sys.argv[1]), [here() if tag == "here" else tag for tag in sys.argv[2:]] or list(TARGETS)
    folder.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for tag in chosen:
        for old in folder.glob(f"*-{tag}.whl"):
            old.unlink()
        wheel = build(tag, folder)
        found = faults(wheel, tag, folder / "libraries")
        wrong += bool(found)
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes:", "; ".join(found) or "as it should be", flush=True)
    print(f"{len(chosen) - wrong} passed, {wrong} failed")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
