"""Files that this package keeps for itself, in folders that nobody else can write to.

Packed weights and kept prefixes decide what a model answers, and are used without being made again, so another user
must not be able to plant them: their folder belongs to this user (or to root) alone, links out of it are not followed,
and only regular files are opened. A file is written under another name and renamed when it is whole, and is read-only
from then on: a kill, a full disk or a second writer leave the old file or the new one, and programs that have the old
one mapped go on with it.

What remains: the owner himself, or root, can truncate a file while it is mapped, which ends the process with SIGBUS.
No operating system offers a mapping that is safe from that, and copying a gigabyte at each start is no price for it.
On Windows, which has other rights, folders are not checked.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from langchain_qwen.errors import IncompleteCheckpointError, UnsafeCacheError
from langchain_qwen.regular_files import open_regular

if sys.platform != "win32":
    import fcntl

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def private_folder(folder: Path) -> None:
    """Create a folder of the cache for this user alone, or check that nobody else can write to it.

    The folder above it, the cache's root, may be a link that this user has made, and a sticky folder such as /tmp.

    Raises:
        UnsafeCacheError: It, or the root, belongs to somebody else or can be written by others, or it is a link.
        OSError: It cannot be created.
    """
    root = folder.parent
    root.parent.mkdir(parents=True, exist_ok=True)
    for place in (root, folder):
        place.mkdir(mode=0o700, exist_ok=True)
    if sys.platform == "win32":
        return
    status = root.lstat()
    if stat.S_ISLNK(status.st_mode):
        _check_owner(root, status)
        status = root.stat()
    _check(root, status, sticky=True)
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise UnsafeCacheError(f"{folder} is a link, and only the cache folder above it may be one. {_ADVICE}")
    _check(folder, status, sticky=False)


def open_private(file: Path) -> BinaryIO:
    """Open a file of a private folder for reading.

    Raises:
        UnsafeCacheError: It belongs to somebody else or can be written by others.
        IncompleteCheckpointError: As for `open_regular`.
        OSError: As for `open_regular`.
    """
    stream = open_regular(file, follow=False)
    try:
        if sys.platform != "win32":
            _check(file, os.fstat(stream.fileno()), sticky=False)
    except UnsafeCacheError:
        stream.close()
        raise
    with suppress(OSError):  # a file of root's is used as it is
        os.utime(file)  # those not used for longest are the first to go
    return stream


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """A stream whose contents become `file` at the end of the block, whole or, after any error, not at all."""
    for left in file.parent.glob("*.tmp"):
        _delete_if_abandoned(left)
    stream = _temporary(file.parent)
    try:
        yield stream
        stream.flush()
        if sys.platform == "win32":
            stream.close()  # an open file cannot be renamed there
        else:
            os.fchmod(stream.fileno(), 0o400)
        os.replace(stream.name, file)
    except BaseException:
        stream.close()
        with suppress(OSError):
            os.unlink(stream.name)
        raise
    stream.close()


def forget_unused(folder: Path, kept_bytes: int, is_obsolete: Callable[[str], bool] = lambda _: False) -> None:
    """Delete the files of a private folder that nobody can use any more, then those not used for longest.

    The latest file always stays. A program that has a deleted one mapped keeps its contents.

    Args:
        folder: Where they are.
        kept_bytes: How much may stay.
        is_obsolete: Whether a file of this name can no longer be used.
    """
    files = []
    for file in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):  # another process deletes too
            files.append((file, file.lstat()))
    total = 0
    for file, status in sorted(files, key=lambda item: item[1].st_mtime_ns, reverse=True):
        if is_obsolete(file.name) or (total and total + status.st_size > kept_bytes):
            file.unlink(missing_ok=True)
        else:
            total += status.st_size


def _temporary(folder: Path) -> IO[bytes]:
    """A new file with a name that no other process has, on this machine or in another container, locked while open."""
    while True:
        stream = tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False)  # noqa: SIM115  closed by the caller
        if sys.platform == "win32":
            return stream
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream
        stream.close()  # deleted by somebody who came before the lock


def _delete_if_abandoned(temporary: Path) -> None:
    """Delete what a killed writer has left: the lock of a living one is held, and Windows keeps open files."""
    with suppress(OSError, IncompleteCheckpointError):
        if sys.platform != "win32":
            with open_regular(temporary, follow=False) as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()
        else:
            temporary.unlink()


_ADVICE = "Choose another place with the environment variable LANGCHAIN_QWEN_CACHE"


def _check(place: Path, status: os.stat_result, *, sticky: bool) -> None:
    _check_owner(place, status)
    if status.st_mode & _BY_OTHERS and not (sticky and status.st_mode & stat.S_ISVTX):
        raise UnsafeCacheError(
            f"{place} can be written by other users, who could plant weights there. Run `chmod go-w {place}` if you "
            f"trust what it holds, or delete it. {_ADVICE}"
        )


def _check_owner(place: Path, status: os.stat_result) -> None:
    if sys.platform != "win32" and status.st_uid not in (0, os.geteuid()):
        raise UnsafeCacheError(
            f"{place} belongs to user {status.st_uid}, who could plant weights there, and this is user "
            f"{os.geteuid()}. Run `chown -R {os.geteuid()} {place}` if you trust what it holds. {_ADVICE}"
        )
