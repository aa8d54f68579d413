"""safetensors files: what they say of themselves, and their tensors, mapped rather than read.

The format is eight bytes with the header's length, the header as JSON, and the data. A header comes from whoever made
the file, so nothing of it is believed before it was compared with the rest: see `read_header`.
"""

from __future__ import annotations

import json
import math
import os
import struct
import weakref
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.private_files import open_private, replacing
from langchain_qwen.errors import IncompleteCheckpointError
from langchain_qwen.regular_files import open_regular, without_doubles

DTYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "I32": np.int32, "U8": np.uint8}
# All types of the format; what is not among the ones above only matters where it is used.
BITS = {name: 8 * np.dtype(dtype).itemsize for name, dtype in DTYPES.items()}
BITS |= {"BOOL": 8, "I8": 8, "I16": 16, "U16": 16, "U32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64}
BITS |= {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
LARGEST_HEADER = 100_000_000  # bytes, as in the format's own library
MOST_AXES = 32
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor is: `begin` and `end` count bytes from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. The tensors lie one behind the other, in this order, and fill it."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    start: int
    size: int


def inspect(file: Path) -> Header:
    """Read the header of a safetensors file and check that the file is all there.

    Raises:
        IncompleteCheckpointError: The file is empty, cut off, damaged, a Git LFS pointer, or no file but a pipe.
    """
    with open_regular(file) as stream:
        return read_header(file, stream)


def read_header(file: Path, stream: BinaryIO) -> Header:
    """Read and check the header of an open file; raises as `inspect`."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    start = stream.read(8)
    if LFS_POINTER.startswith(start) and len(start) == 8:
        raise IncompleteCheckpointError(
            f"{file} is only a pointer to the weights: run `git lfs pull` in the folder it was cloned to"
        )
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if length == 0 or 8 + length > size:
        raise IncompleteCheckpointError(f"{file} is cut off: it has {size:,} bytes, less than its header")
    if length > LARGEST_HEADER:
        raise _damaged(file, f"its header would be {length:,} bytes long; the format allows {LARGEST_HEADER:,}")
    try:
        header = json.loads(stream.read(length), object_pairs_hook=without_doubles)
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata other than texts")
        tensors = {name: _tensor(entry, 8 + length) for name, entry in header.items()}
        tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
        end = 8 + length
        for name, tensor in tensors.items():
            if tensor.begin != end:
                raise ValueError(f"{name} begins at {tensor.begin}, and what comes before it ends at {end}")
            end = tensor.end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file, f"its header cannot be read ({error})") from error
    if size != end:
        raise IncompleteCheckpointError(f"{file} is damaged: it has {size:,} bytes and should have {end:,}")
    return Header(tensors, metadata, 8 + length, size)


def _tensor(entry: Mapping[str, Any], start: int) -> Tensor:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, begin, end)) or len(shape) > MOST_AXES:
        raise ValueError(f"shape {shape} and offsets {begin}, {end} are not sizes")
    bits = BITS.get(dtype)
    if end < begin or (bits is not None and math.prod(shape) * bits != 8 * (end - begin)):
        raise ValueError(f"{dtype} {shape} does not take the bytes from {begin} to {end}")
    return Tensor(dtype, tuple(shape), start + begin, start + end)


def _damaged(file: Path, what: str) -> IncompleteCheckpointError:
    return IncompleteCheckpointError(f"{file} is damaged: {what}")


class TensorFile:
    """An open file whose header is read once; a tensor is mapped when it is asked for, and its mapping ends with it.

    bf16, which numpy lacks, comes as uint16; see `as_float32`.

    Raises:
        IncompleteCheckpointError: As `inspect`.
    """

    def __init__(self, file: Path, open_file: Callable[[Path], BinaryIO] = open_regular):
        self._file = file
        self._stream = open_file(file)  # kept, so that another file of this name cannot come between header and data
        weakref.finalize(self, self._stream.close)
        self.header = read_header(file, self._stream)
        self.metadata = self.header.metadata

    def __getitem__(self, name: str) -> NDArray[Any]:
        tensor = self.header.tensors[name]
        if tensor.dtype not in DTYPES:
            raise IncompleteCheckpointError(
                f"{self._file}: the tensor {name} cannot be read: {tensor.dtype} is none of {', '.join(DTYPES)}"
            )
        return self._bytes(tensor.begin, tensor.end).view(DTYPES[tensor.dtype]).reshape(tensor.shape)

    def _bytes(self, begin: int, end: int) -> NDArray[np.uint8]:
        if begin == end:
            return np.empty(0, np.uint8)
        if os.fstat(self._stream.fileno()).st_size != self.header.size:  # the pages behind the end cannot be read
            raise IncompleteCheckpointError(f"{self._file} has changed while it was read; try again")
        return np.asarray(np.memmap(self._stream, np.uint8, mode="r", offset=begin, shape=(end - begin,)))


class MappedFile(TensorFile):
    """The same under one mapping, for files whose tensors are all used for long: a mapping takes a descriptor."""

    def __init__(self, file: Path, open_file: Callable[[Path], BinaryIO] = open_regular):
        super().__init__(file, open_file)
        self._data = super()._bytes(self.header.start, self.header.size)

    def _bytes(self, begin: int, end: int) -> NDArray[np.uint8]:
        start = self.header.start
        return self._data[begin - start : end - start]


def read_copy(file: Path, name: str) -> tuple[NDArray[Any], dict[str, str]]:
    """One tensor of a private file as a copy, which nothing can change or cut any more, and the metadata.

    Raises:
        KeyError: There is no such tensor.
        IncompleteCheckpointError: As `inspect`, or the tensor is of another type than `write_bytes` writes.
        UnsafeCacheError: As `open_private`.
        OSError: It cannot be read.
    """
    with open_private(file) as stream:
        header = read_header(file, stream)
        tensor = header.tensors[name]
        stream.seek(tensor.begin)
        data = np.fromfile(stream, np.uint8, tensor.end - tensor.begin)
    if tensor.dtype != "U8" or len(data) != tensor.end - tensor.begin:
        raise _damaged(file, f"{name} is {tensor.dtype} of {len(data):,} bytes")
    return data.reshape(tensor.shape), header.metadata


def write_bytes(file: Path, tensors: Mapping[str, NDArray[np.uint8]], metadata: Mapping[str, str]) -> None:
    """Write arrays of bytes as a safetensors file, whole or not at all, without a copy in memory."""
    with replacing(file) as stream:
        write_header(stream, "U8", {name: tensor.shape for name, tensor in tensors.items()}, metadata)
        for tensor in tensors.values():
            stream.write(np.ascontiguousarray(tensor).data)


def write_header(
    stream: IO[bytes], dtype: str, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> None:
    """Write what comes before the data of tensors of one type, which has to follow in the order of `shapes`."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)


def checksum(data: NDArray[np.uint8]) -> int:
    """CRC-32: a third of a second for a gigabyte.

    It finds every damage within 32 neighboring bits, words that have changed places, and other accidents but for one in
    four thousand million. It is no defence against a forger; the private folder is.
    """
    return zlib.crc32(np.ascontiguousarray(data).data)


def as_float32(tensor: NDArray[Any]) -> NDArray[np.float32]:
    """The numbers of a floating-point tensor, aligned as native code wants them: the format promises nothing."""
    if tensor.dtype == np.uint16:  # bf16 is the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return np.require(tensor.astype(np.float32, copy=False), requirements="A")
