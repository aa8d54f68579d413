"""Files that may be anything: regular ones are opened, JSON is read within bounds, the rest is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from langchain_qwen.errors import IncompleteCheckpointError

# Beyond what any checkpoint has: an index of 80 layers takes 100 KB, a vocabulary with its merges 11 MB.
MAX_BYTES = 64_000_000
MAX_DEPTH = 32
READ_AT_ONCE = 1 << 20  # a buffer of MAX_BYTES for each small file would not be had under tight limits
_NESTED = (dict, list)
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def expanded(path: str | Path) -> Path:
    """With the home folder for `~`; as it stands where there is no such user, so that the path is what is not found."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_object(file: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        IncompleteCheckpointError: It is missing, no regular file, too large, or no JSON object.
        OSError: It cannot be read.
    """
    try:
        value = json.loads(_read(file), object_pairs_hook=without_doubles)
        _check_depth(value)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IncompleteCheckpointError(f"{file.parent} lacks {file.name}") from error
    except RecursionError as error:
        raise IncompleteCheckpointError(f"{file} is damaged: it is nested too deeply") from error
    except ValueError as error:
        raise IncompleteCheckpointError(f"{file} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise IncompleteCheckpointError(f"{file} is damaged: it holds no JSON object")
    return value


def open_regular(file: Path, *, follow: bool = True) -> BinaryIO:
    """Open a file for reading, without waiting for a writer where it is a pipe.

    Raises:
        IncompleteCheckpointError: It is no regular file.
        OSError: It cannot be opened, or is a link and `follow` is off.
    """
    stream = os.fdopen(os.open(file, _OPEN | (0 if follow else _NO_LINK)), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise IncompleteCheckpointError(f"{file} is damaged: it is no regular file")
    return stream


def _read(file: Path) -> str:
    with open_regular(file) as stream:
        content = b""
        while len(content) <= MAX_BYTES and (more := stream.read(READ_AT_ONCE)):
            content += more
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    return content.decode("utf-8")


def _check_depth(value: Any) -> None:
    """Raise for what cannot be written or walked through again without exceeding Python's stack."""
    level = [value] if type(value) in _NESTED else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in _NESTED
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` of JSON in which a key may be there once only."""
    value = dict(pairs)
    if len(value) < len(pairs):  # programs differ in which of the two they take
        raise ValueError("a key is there twice")
    return value
