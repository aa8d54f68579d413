"""GGUF headers made to do harm, or damaged: a typed error at once, no hang, no memory, no foreign bytes."""

from __future__ import annotations

import contextlib
import os
import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.checkpoints.gguf_file import KINDS, GgufFile, inspect
from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, UnsupportedModelError

F32, STRING, ARRAY, BOOL, U32 = 0, 8, 9, 7, 4


class Info(NamedTuple):
    """A line of a file's list of tensors."""

    name: bytes = b"a"
    dims: tuple[int, ...] = (8,)
    kind: int = F32
    offset: int = 0
    axes: int | None = None


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def texts(*values: bytes, count: int | None = None) -> bytes:
    return struct.pack("<IQ", STRING, len(values) if count is None else count) + b"".join(map(text, values))


def write(
    file: Path,
    infos: Sequence[Info] = (),
    pairs: Sequence[bytes] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensors: int | None = None,
    keys: int | None = None,
    data: int = 32,
) -> Path:
    counts = (len(infos) if tensors is None else tensors, len(pairs) if keys is None else keys)
    header = magic + struct.pack("<IQQ", version, *counts) + b"".join(pairs)
    for info in infos:
        axes = len(info.dims) if info.axes is None else info.axes
        header += text(info.name) + struct.pack("<I", axes) + struct.pack(f"<{len(info.dims)}Q", *info.dims)
        header += struct.pack("<IQ", info.kind, info.offset)
    file.write_bytes(header + bytes(-len(header) % 32) + bytes(data))
    return file


def test_a_sound_file(tmp_path: Path) -> None:
    pairs = [
        pair(b"n", U32, struct.pack("<I", 7)),
        pair(b"t", STRING, text("é".encode())),
        pair(b"b", BOOL, b"\1"),
        pair(b"l", ARRAY, struct.pack("<IQ3h", 3, 3, -1, 0, 5)),
        pair(b"s", ARRAY, texts(b"x", b"", b"yz")),
        pair(b"flags", ARRAY, struct.pack("<IQ", BOOL, 2) + b"\0\1"),
    ]
    file = GgufFile(write(tmp_path / "f", [Info(b"b", (2, 4), offset=32), Info()], pairs, data=64))
    expected = {"n": 7, "t": "é", "b": True, "l": [-1, 0, 5], "flags": [False, True]}
    assert {key: value for key, value in file.header.metadata.items() if key != "s"} == expected
    assert file.texts("s") == ["x", "", "yz"]
    assert file.texts("n") == file.texts("missing") == []
    assert list(file.header.tensors) == ["a", "b"]
    assert file.header.tensors["b"].shape == (4, 2)
    assert file.blocks("b").shape == (4, 8)
    assert file.blocks("a").shape == (1, 32)
    assert [tensor.end - tensor.begin for tensor in file.header.tensors.values()] == [32, 32]


HUGE = (1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
HOSTILE: dict[str, dict[str, Any]] = {
    "magic": {"magic": b"GGUX"},
    "no axes": {"infos": [Info(dims=())]},
    "five axes": {"infos": [Info(dims=(2, 1, 1, 1, 1))]},
    "axes without sizes": {"infos": [Info(axes=4)]},
    "many axes": {"infos": [Info(axes=1 << 31)]},
    "a zero": {"infos": [Info(dims=(8, 0))]},
    "a product that overflows": {"infos": [Info(dims=(1 << 32, 1 << 32))]},
    "a product that overflows to a few": {"infos": [Info(dims=(1 << 63, 2, 8))]},
    "half a block": {"infos": [Info(dims=(16,), kind=8)]},
    "beyond the end": {"infos": [Info(dims=(9,))]},
    "begins beyond the end": {"infos": [Info(offset=1 << 20)]},
    "begins far beyond the end": {"infos": [Info(offset=(1 << 64) - 32)]},
    "not aligned": {"infos": [Info(dims=(1,), offset=4)]},
    "overlap": {"infos": [Info(), Info(b"b")], "data": 64},
    "overlap by some bytes": {"infos": [Info(dims=(12,)), Info(b"b", offset=32)], "data": 64},
    "the same name": {"infos": [Info(), Info(offset=32)], "data": 64},
    "a name that is no text": {"infos": [Info(b"\xff\xfe")]},
    "a name of a megabyte": {"infos": [Info(b"x" * (1 << 20))]},
    "a key twice": {"pairs": [pair(b"k", U32, bytes(4))] * 2},
    "a key that is no text": {"pairs": [pair(b"\xc3", U32, bytes(4))]},
    "a text that is none": {"pairs": [pair(b"k", STRING, text(b"\xff"))]},
    "a text longer than the file": {"pairs": [pair(b"k", STRING, text(b"x", 1 << 20))]},
    "an unknown type": {"pairs": [pair(b"k", 13, bytes(8))]},
    "neither true nor false": {"pairs": [pair(b"k", BOOL, b"\2")]},
    "a list of lists": {"pairs": [pair(b"k", ARRAY, struct.pack("<IQ", ARRAY, 1) + texts(b"x"))]},
    "a list of an unknown type": {"pairs": [pair(b"k", ARRAY, struct.pack("<IQ", 99, 1))]},
    "more texts than there are": {"pairs": [pair(b"k", ARRAY, texts(b"x", count=5000))]},
    "an alignment of zero": {"pairs": [pair(b"general.alignment", U32, bytes(4))]},
    "an odd alignment": {"pairs": [pair(b"general.alignment", U32, struct.pack("<I", 24))]},
    "an alignment of gigabytes": {"pairs": [pair(b"general.alignment", U32, struct.pack("<I", 1 << 31))]},
    "an alignment that is a text": {"pairs": [pair(b"general.alignment", STRING, text(b"32"))]},
    **{f"{count} tensors": {"tensors": count} for count in (2, 1 << 20, *HUGE)},
    **{f"{count} keys": {"keys": count} for count in (2, 1 << 20, *HUGE)},
    **{f"a text of {n} bytes": {"pairs": [pair(b"k", STRING, text(b"", n))]} for n in HUGE},
    **{f"a list of {n} texts": {"pairs": [pair(b"k", ARRAY, texts(count=n))]} for n in HUGE},
    **{f"a list of {n} numbers": {"pairs": [pair(b"k", ARRAY, struct.pack("<IQ", U32, n))]} for n in HUGE},
    **{f"{n} rows": {"infos": [Info(dims=(8, n))]} for n in HUGE},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_refused_at_once(tmp_path: Path, case: str) -> None:
    file = write(tmp_path / "hostile.gguf", **HOSTILE[case])
    tracemalloc.start()
    with pytest.raises(IncompleteCheckpointError, match=r"hostile\.gguf"):
        inspect(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


@pytest.mark.parametrize("version", [0, 1, 4, 99])
def test_other_versions_are_named(tmp_path: Path, version: int) -> None:
    with pytest.raises(UnsupportedModelError, match=f"of version {version}, and versions 2 and 3"):
        inspect(write(tmp_path / "f", version=version))


def test_big_endian_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="big-endian"):
        inspect(write(tmp_path / "f", version=3 << 24))


def test_an_unknown_type_of_tensors_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="type number 4,"):
        inspect(write(tmp_path / "f", [Info(kind=4)]))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IncompleteCheckpointError, match="no regular file"):
        inspect(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    with pytest.raises(IncompleteCheckpointError, match="cut off"):
        inspect(tmp_path / "empty")
    (tmp_path / "lfs").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(IncompleteCheckpointError, match="git lfs pull"):
        inspect(tmp_path / "lfs")


def test_a_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "f", pairs=[pair(b"k", ARRAY, struct.pack("<IQ", U32, 1 << 25))])
    os.truncate(file, 1 << 30)  # the numbers would be there
    with pytest.raises(IncompleteCheckpointError, match="header is longer than"):
        inspect(file)


def test_a_file_that_shrinks_is_not_mapped(tmp_path: Path) -> None:
    file = GgufFile(write(tmp_path / "f", [Info()]))
    os.truncate(tmp_path / "f", 16)
    with pytest.raises(IncompleteCheckpointError, match="has changed"):
        file.blocks("a")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("sound") / "sound.gguf"
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_block_count(2)
    writer.add_token_list(["a", "bc", "é"])
    writer.add_token_types([1, 1, 3])
    writer.add_rope_freq_base(1e6)
    writer.add_bool("flag", True)
    for kind, rows in ((8, 2), (12, 1), (0, 3)):
        name, numbers, nbytes = KINDS[kind]
        data = np.zeros((rows, nbytes * (256 // numbers)), np.uint8)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType(kind)) if kind else writer.add_tensor(
            name, np.zeros((rows, 5), np.float32)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.read_bytes()


def test_what_the_package_writes_is_read_as_the_package_reads_it(sound: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(sound)
    ours, theirs = GgufFile(tmp_path / "f"), gguf.GGUFReader(tmp_path / "f")
    for tensor in theirs.tensors:
        mine = ours.header.tensors[tensor.name]
        assert (mine.begin, mine.end - mine.begin) == (tensor.data_offset, tensor.n_bytes)
        assert mine.shape[::-1] == tuple(tensor.shape)
    assert ours.texts("tokenizer.ggml.tokens") == ["a", "bc", "é"]
    assert ours.header.metadata["tokenizer.ggml.token_type"] == [1, 1, 3]
    assert ours.header.metadata["qwen2.rope.freq_base"] == 1e6


@settings(deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 12), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4),
    cut=st.integers(0, 1 << 12) | st.none(),
)
def test_any_change_is_read_within_the_file_or_refused(
    sound: bytes, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(sound)
    for place, new in changes:
        data[place % len(data) : place % len(data) + len(new)] = new
    file = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    file.write_bytes(bytes(data[: None if cut is None else cut % len(data)]))
    try:
        opened = GgufFile(file)
        for name, tensor in opened.header.tensors.items():
            assert opened.header.start <= tensor.begin < tensor.end <= len(data)
            assert opened.blocks(name).nbytes == tensor.end - tensor.begin
        for key in opened.header.metadata:
            opened.texts(key)
    except CheckpointError:
        pass


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_after_the_magic(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.gguf"
    file.write_bytes(b"GGUF\3\0\0\0" + tail)
    with contextlib.suppress(CheckpointError):
        inspect(file)
