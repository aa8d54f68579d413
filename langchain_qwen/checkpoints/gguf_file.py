"""GGUF files: what they say of themselves, and their tensors, mapped rather than read.

The format is llama.cpp's (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): "GGUF", a version, two counts,
metadata, a list of tensors, and their data, aligned. A header comes from whoever made the file, so nothing of it is
believed before it was compared with the rest, and nothing is mapped before all of it was read. The `gguf` package
believes counts and offsets as they stand, and is used by the tests only.
"""

from __future__ import annotations

import math
import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError
from langchain_qwen.regular_files import open_regular

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LARGEST_HEADER = 64_000_000  # bytes: Qwen2.5's takes 6 MB, of tokens and merges
MOST_AXES = 4
MOST_TENSORS, MOST_KEYS = 1 << 16, 1 << 12
LONGEST_NAME = 1 << 16
DEFAULT_ALIGNMENT, LARGEST_ALIGNMENT = 32, 1 << 16
READ_AT_ONCE = 1 << 23
LFS_POINTER = b"version https://git-lfs"[:4]


class Kind(NamedTuple):
    """A type of tensors: how many numbers a block holds, and how many bytes it takes."""

    name: str
    numbers: int
    nbytes: int


# All types that llama.cpp writes, by their numbers; `gguf_blocks.py` reads some of them.
KINDS = {
    **{0: Kind("F32", 1, 4), 1: Kind("F16", 1, 2), 30: Kind("BF16", 1, 2), 28: Kind("F64", 1, 8)},
    **{24: Kind("I8", 1, 1), 25: Kind("I16", 1, 2), 26: Kind("I32", 1, 4), 27: Kind("I64", 1, 8)},
    **{2: Kind("Q4_0", 32, 18), 3: Kind("Q4_1", 32, 20), 6: Kind("Q5_0", 32, 22), 7: Kind("Q5_1", 32, 24)},
    **{8: Kind("Q8_0", 32, 34), 9: Kind("Q8_1", 32, 40), 15: Kind("Q8_K", 256, 292)},
    **{10: Kind("Q2_K", 256, 84), 11: Kind("Q3_K", 256, 110), 12: Kind("Q4_K", 256, 144)},
    **{13: Kind("Q5_K", 256, 176), 14: Kind("Q6_K", 256, 210)},
    **{16: Kind("IQ2_XXS", 256, 66), 17: Kind("IQ2_XS", 256, 74), 18: Kind("IQ3_XXS", 256, 98)},
    **{19: Kind("IQ1_S", 256, 50), 20: Kind("IQ4_NL", 32, 18), 21: Kind("IQ3_S", 256, 110)},
    **{22: Kind("IQ2_S", 256, 82), 23: Kind("IQ4_XS", 256, 136), 29: Kind("IQ1_M", 256, 56)},
    **{34: Kind("TQ1_0", 256, 54), 35: Kind("TQ2_0", 256, 66), 39: Kind("MXFP4", 32, 17), 40: Kind("NVFP4", 64, 36)},
}

# Types of metadata by their numbers.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor is. `shape` begins with the rows, as numpy has it; `begin` and `end` count bytes of the file."""

    kind: Kind
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts in the metadata, which `GgufFile.texts` reads: a vocabulary takes too long to read it always."""

    place: int
    count: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        metadata: By their keys: numbers, truth values, texts, lists of numbers or truth values, and `Texts`.
        tensors: By their names, in the order in which they lie in the file.
        start: Where the data begins.
        size: Of the file, in bytes.
    """

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    start: int
    size: int


def inspect(file: Path) -> Header:
    """Read the header of a GGUF file and check that the file is all there.

    Raises:
        IncompleteCheckpointError: The file is empty, cut off, damaged, a Git LFS pointer, or no file but a pipe.
        UnsupportedModelError: It is of another version, big-endian, or of types that nobody knows.
        OSError: It cannot be read.
    """
    with open_regular(file) as stream:
        return read_header(file, stream)


def read_header(file: Path, stream: BinaryIO) -> Header:
    """Read and check the header of an open file; raises as `inspect`."""
    cursor = _Cursor(file, stream)
    magic = cursor.take(4)
    if magic == LFS_POINTER:
        raise IncompleteCheckpointError(
            f"{file} is only a pointer to the weights: run `git lfs pull` in the folder it was cloned to"
        )
    if magic != MAGIC:
        raise cursor.damaged("it does not begin as a GGUF file does")
    version = cursor.number("<I")
    if version not in VERSIONS:
        raise UnsupportedModelError(_version_advice(file, int(version)))
    num_tensors, num_keys = cursor.count(MOST_TENSORS, "tensors"), cursor.count(MOST_KEYS, "keys")
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.text("a key", LONGEST_NAME)
        if key in metadata:
            raise cursor.damaged(f"the key {_short(key)} is there twice")
        metadata[key] = cursor.value(key)
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.damaged(f"general.alignment is {_short(alignment)}, which is no power of two")
    listed = [cursor.tensor(alignment) for _ in range(num_tensors)]
    start = -(-cursor.place // alignment) * alignment
    return Header(metadata, _placed(cursor, listed, start), start, cursor.size)


def _placed(cursor: _Cursor, listed: list[tuple[str, Kind, tuple[int, ...], int]], start: int) -> dict[str, Tensor]:
    """The tensors at their places, none of them beyond the file's end or on top of another one."""
    tensors: dict[str, Tensor] = {}
    end, before = start, "the header"
    for name, kind, shape, offset in sorted(listed, key=lambda item: item[3]):
        begin = start + offset
        if name in tensors:
            raise cursor.damaged(f"the tensor {_short(name)} is there twice")
        if begin < end:
            raise cursor.damaged(f"the tensors {_short(before)} and {_short(name)} overlap")
        end, before = begin + math.prod(shape) // kind.numbers * kind.nbytes, name
        if end > cursor.size:
            raise IncompleteCheckpointError(
                f"{cursor.file} is cut off: it has {cursor.size:,} bytes, and the tensor {_short(name)} ends at "
                f"{end:,}; copy or download it again"
            )
        tensors[name] = Tensor(kind, shape, begin, end)
    return tensors


class _Cursor:
    """Reads a header from its beginning, and never beyond what the file has."""

    def __init__(self, file: Path, stream: BinaryIO):
        self.file = file
        self.size = os.fstat(stream.fileno()).st_size
        self.place = 0
        self._stream = stream
        self._data = b""
        stream.seek(0)

    def take(self, count: int) -> bytes:
        """The next bytes."""
        start, end = self.place, self.place + count
        self.reach(end)
        self.place = end
        return self._data[start:end]

    def reach(self, end: int) -> None:
        """Have the bytes before `end` at hand."""
        if end > min(self.size, LARGEST_HEADER):
            if self.size <= LARGEST_HEADER:
                raise IncompleteCheckpointError(
                    f"{self.file} is cut off or damaged: its header goes on behind its {self.size:,} bytes; copy or "
                    "download it again"
                )
            raise self.damaged(f"its header is longer than {LARGEST_HEADER:,} bytes")
        while len(self._data) < end:
            more = self._stream.read(max(READ_AT_ONCE, end - len(self._data)))
            if not more:
                raise IncompleteCheckpointError(f"{self.file} has changed while it was read; try again")
            self._data += more

    def number(self, layout: str) -> int | float:
        """The next number, of a `struct` layout."""
        value: int | float = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def count(self, most: int, what: str) -> int:
        """The next number as a count of something."""
        value = int(self.number("<Q"))
        if value > most:
            raise self.damaged(f"it would have {value:,} {what}, and {most:,} are the most that are read")
        return value

    def text(self, what: str, longest: int = LARGEST_HEADER) -> str:
        """The next text."""
        try:
            return self.take(self.count(longest, f"bytes of {what}")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(f"{what} is no UTF-8 text") from error

    def value(self, key: str) -> Any:
        """The next value of the metadata, with its type before it."""
        kind = int(self.number("<I"))
        if kind != _ARRAY:
            return self._scalar(kind, key)
        kind, count = int(self.number("<I")), self.count(LARGEST_HEADER, f"entries of {_short(key)}")
        if kind in _SCALARS:
            layout = np.dtype(_SCALARS[kind])
            return np.frombuffer(self.take(count * layout.itemsize), layout).tolist()
        if kind == _BOOL:
            return [self._scalar(kind, key) for _ in range(count)]
        if kind != _STRING:  # lists of lists, which nobody writes, and unknown types
            raise self.damaged(f"{_short(key)} is a list of values of the type {kind}")
        texts = Texts(self.place, count)
        self.place = self._behind(texts)
        return texts

    def texts(self, texts: Texts) -> list[str]:
        """Read a list that has been passed."""
        try:
            return [self._data[start:end].decode("utf-8") for start, end in self._spans(texts)]
        except UnicodeDecodeError as error:
            raise self.damaged("a text of its metadata is no UTF-8") from error

    def _behind(self, texts: Texts) -> int:
        """Where a list ends: a header has 300,000 texts, and is read several times at a start."""
        place, at_hand = texts.place, len(self._data)
        for _ in range(texts.count):
            if place + 8 > at_hand:
                self.reach(place + 8)
                at_hand = len(self._data)
            place += 8 + _LENGTH.unpack_from(self._data, place)[0]
        self.reach(place)
        return place

    def _spans(self, texts: Texts) -> Iterator[tuple[int, int]]:
        """Where each text begins and ends."""
        end, at_hand = texts.place, len(self._data)
        for _ in range(texts.count):
            start = end + 8
            if start > at_hand:
                self.reach(start)
                at_hand = len(self._data)
            end = start + _LENGTH.unpack_from(self._data, end)[0]
            if end > at_hand:
                self.reach(end)
                at_hand = len(self._data)
            yield start, end

    def _scalar(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.text(_short(key))
        if kind == _BOOL:
            if (byte := self.take(1)) not in (b"\0", b"\1"):
                raise self.damaged(f"{_short(key)} is neither true nor false")
            return byte == b"\1"
        if kind not in _SCALARS:
            raise self.damaged(f"{_short(key)} has a value of the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def tensor(self, alignment: int) -> tuple[str, Kind, tuple[int, ...], int]:
        """The next tensor of the list: name, type, shape and offset within the data."""
        name = self.text("a tensor's name", LONGEST_NAME)
        axes = int(self.number("<I"))
        if not 1 <= axes <= MOST_AXES:
            raise self.damaged(f"the tensor {_short(name)} has {axes} axes")
        innermost_first = struct.unpack(f"<{axes}Q", self.take(8 * axes))
        number, offset = int(self.number("<I")), int(self.number("<Q"))
        if number not in KINDS:
            raise UnsupportedModelError(
                f"{self.file} holds the tensor {_short(name)} in the type number {number}, which langchain-qwen does "
                "not know; take a file in Q4_K_M, Q5_K_M, Q6_K or Q8_0"
            )
        kind, size = KINDS[number], math.prod(innermost_first)
        if size == 0 or size >= 1 << 48 or innermost_first[0] % kind.numbers:
            raise self.damaged(f"the tensor {_short(name)} of {kind.name} has the shape {innermost_first}")
        if offset % alignment or offset > self.size:
            raise self.damaged(f"the tensor {_short(name)} begins at {offset:,}, outside of the file or not aligned")
        return name, kind, innermost_first[::-1], offset

    def damaged(self, what: str) -> IncompleteCheckpointError:
        """The error for a header that cannot be right."""
        return IncompleteCheckpointError(f"{self.file} is damaged: {what}; copy or download it again")


class GgufFile:
    """An open file whose header is read once; a tensor is mapped when it is asked for, and its mapping ends with it.

    Raises:
        IncompleteCheckpointError, UnsupportedModelError: As `inspect`.
    """

    def __init__(self, file: Path):
        self.path = file
        self._stream = open_regular(file)  # kept, so that another file of this name cannot come between header and data
        weakref.finalize(self, self._stream.close)
        self.header = read_header(file, self._stream)

    @property
    def name(self) -> str:
        """For errors."""
        return str(self.path)

    def texts(self, key: str) -> list[str]:
        """A list of texts in the metadata; none where there is no such list."""
        texts = self.header.metadata.get(key)
        if not isinstance(texts, Texts):
            return []
        cursor = _Cursor(self.path, self._stream)
        cursor.reach(texts.place)
        return cursor.texts(texts)

    def blocks(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor, row by row: [rows, bytes of a row]."""
        tensor = self.header.tensors[name]
        if os.fstat(self._stream.fileno()).st_size != self.header.size:  # the pages behind the end cannot be read
            raise IncompleteCheckpointError(f"{self.path} has changed while it was read; try again")
        size = tensor.end - tensor.begin
        data = np.memmap(self._stream, np.uint8, mode="r", offset=tensor.begin, shape=(size,))
        rows = math.prod(tensor.shape[:-1])
        return np.asarray(data).reshape(rows, size // rows)


def _version_advice(file: Path, version: int) -> str:
    if version and version & 0xFFFF == 0:
        return f"{file} is a big-endian GGUF file; take one for little-endian machines, as nearly all are"
    known = " and ".join(map(str, VERSIONS))
    return (
        f"{file} is a GGUF file of version {version}, and versions {known} are read; convert the model again with a "
        "current llama.cpp, or take a newer file"
    )


def _short(value: object) -> str:
    """A value for an error, however long it is."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
