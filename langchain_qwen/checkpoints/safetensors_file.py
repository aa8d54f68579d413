"""What a safetensors file says of itself, read without its data."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from langchain_qwen.errors import IncompleteCheckpointError

LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Contents:
    """Which tensors a file holds, how many numbers that are, and how many bytes they take."""

    names: frozenset[str]
    parameters: int
    data_bytes: int


def inspect(file: Path) -> Contents:
    """Read the header of a safetensors file and check that the file is all there.

    The format is eight bytes with the header's length, the header as JSON, and the data.

    Raises:
        IncompleteCheckpointError: The file is empty, cut off, damaged or a Git LFS pointer.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if LFS_POINTER.startswith(start) and len(start) == 8:
            raise IncompleteCheckpointError(
                f"{file} is only a pointer to the weights: run `git lfs pull` in the folder it was cloned to"
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length == 0 or 8 + length > size:
            raise IncompleteCheckpointError(f"{file} is cut off: it has {size:,} bytes, less than its header")
        try:
            header = json.loads(stream.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            data_bytes = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
            parameters = sum(math.prod(tensor["shape"]) for tensor in tensors.values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IncompleteCheckpointError(f"{file} is damaged: its header cannot be read ({error})") from error
    expected = 8 + length + data_bytes
    if size != expected:
        raise IncompleteCheckpointError(f"{file} is damaged: it has {size:,} bytes and should have {expected:,}")
    return Contents(frozenset(tensors), parameters, data_bytes)
