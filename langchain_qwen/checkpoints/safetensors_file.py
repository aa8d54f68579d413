"""safetensors files: what they say of themselves, and their tensors, mapped rather than read.

The format is eight bytes with the header's length, the header as JSON, and the data.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.errors import IncompleteCheckpointError

DTYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "I32": np.int32, "U8": np.uint8}
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Contents:
    """Which tensors a file holds, how many numbers that are, and how many bytes they take."""

    names: frozenset[str]
    parameters: int
    data_bytes: int


def inspect(file: Path) -> Contents:
    """Read the header of a safetensors file and check that the file is all there.

    Raises:
        IncompleteCheckpointError: The file is empty, cut off, damaged or a Git LFS pointer.
    """
    start, tensors, _ = read_header(file)
    try:
        parameters = sum(math.prod(tensor["shape"]) for tensor in tensors.values())
    except (KeyError, TypeError) as error:
        raise _damaged(file, error) from error
    return Contents(frozenset(tensors), parameters, file.stat().st_size - start)


def read_header(file: Path) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Where the data begin, the description of each tensor, and the metadata; raises as `inspect`."""
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
            metadata = header.pop("__metadata__", {})
            data_bytes = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(file, error) from error
    expected = 8 + length + data_bytes
    if size != expected:
        raise IncompleteCheckpointError(f"{file} is damaged: it has {size:,} bytes and should have {expected:,}")
    return 8 + length, header, metadata


def _damaged(file: Path, error: Exception) -> IncompleteCheckpointError:
    return IncompleteCheckpointError(f"{file} is damaged: its header cannot be read ({error})")


class MappedFile:
    """The tensors of a file as arrays over its pages: nothing is read before it is used, and processes share it.

    bf16, which numpy lacks, comes as uint16; see `as_float32`.

    Raises:
        IncompleteCheckpointError: As `inspect`.
    """

    def __init__(self, file: Path):
        start, self._tensors, self.metadata = read_header(file)
        self._file = file
        self._data = np.memmap(file, np.uint8, mode="r", offset=start) if self._tensors else np.empty(0, np.uint8)

    def __getitem__(self, name: str) -> NDArray[Any]:
        entry = self._tensors[name]
        try:
            begin, end = entry["data_offsets"]
            return np.asarray(self._data)[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        except (KeyError, ValueError, TypeError) as error:
            raise IncompleteCheckpointError(f"{self._file}: the tensor {name} cannot be read ({error!r})") from error


def write_bytes(file: Path, tensors: Mapping[str, NDArray[np.uint8]], metadata: Mapping[str, str]) -> None:
    """Write arrays of bytes as a safetensors file, whole or not at all, without a copy in memory."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "U8", "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            for tensor in tensors.values():
                stream.write(np.ascontiguousarray(tensor).data)
        temporary.replace(file)  # readers see a whole file or none
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def as_float32(tensor: NDArray[Any]) -> NDArray[np.float32]:
    """The numbers of a floating-point tensor."""
    if tensor.dtype == np.uint16:  # bf16 is the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor.astype(np.float32, copy=False)
