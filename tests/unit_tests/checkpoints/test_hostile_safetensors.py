"""safetensors headers made to do harm, or damaged: an error at once, no hang, no memory, no foreign bytes."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_qwen.checkpoints.safetensors_file import MappedFile, TensorFile, as_float32, inspect
from langchain_qwen.engine.runners.cpu.source import Source
from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError


def write(file: Path, header: Any, data: int = 8) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    return file


def tensor(begin: Any = 0, end: Any = 8, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": tensor(), "b": tensor()},
        {"a": tensor(0, 4, [1]), "b": tensor(5, 8, [3], "U8")},
        {"a": tensor(4, 8, [1])},
        {"a": tensor(-8, 8)},
        {"a": tensor(8, 0)},
        {"a": tensor(shape=[3])},
        {"a": tensor(shape=[-1, -2])},
        {"a": tensor(shape=[1 << 62, 4, 0, 1 << 63])},
        {"a": tensor(shape=[2.0])},
        {"a": tensor(shape=[True, 2])},
        {"a": tensor(shape=[1] * 40 + [2])},
        {"a": tensor(shape="2")},
        {"a": tensor(shape=None)},
        {"a": tensor(end=8.0)},
        {"a": tensor(end="8")},
        {"a": tensor(dtype=["F32"])},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}},
        {"a": 7},
        {"__metadata__": {"x": 7}, "a": tensor()},
        {"__metadata__": [], "a": tensor()},
        b'{"a": ' + json.dumps(tensor(shape=[2, 1])).encode() + b', "a": ' + json.dumps(tensor()).encode() + b"}",
        b'{"a": {"dtype": "F32", "dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}',
    ],
)
def test_headers_that_contradict_the_file_are_damaged(tmp_path: Path, header: Any) -> None:
    with pytest.raises(IncompleteCheckpointError, match="is damaged"):
        inspect(write(tmp_path / "a.safetensors", header))


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", 8 << 30))
        stream.truncate(16 << 30)  # a hole
    with pytest.raises(IncompleteCheckpointError, match="the format allows 100,000,000"):
        inspect(file)


def test_a_pipe_or_folder_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").mkdir()
    with pytest.raises(IncompleteCheckpointError, match="no regular file"):
        inspect(tmp_path / "a.safetensors")
    with pytest.raises((IncompleteCheckpointError, IsADirectoryError)):
        inspect(tmp_path / "b.safetensors")


def test_unknown_types_matter_only_where_they_are_used(tmp_path: Path) -> None:
    header = {"a": tensor(0, 8), "b": tensor(8, 13, [7], "F99"), "c": tensor(13, 16, [4], "F6_E2M3")}
    file = TensorFile(write(tmp_path / "a.safetensors", header, 16))
    assert file["a"].shape == (2,)
    for name, dtype in (("b", "F99"), ("c", "F6_E2M3")):
        with pytest.raises(IncompleteCheckpointError, match=f"the tensor {name} cannot be read: {dtype}"):
            file[name]


def test_a_header_is_read_once_for_all_tensors(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(tiny_checkpoint)
    monkeypatch.setattr("langchain_qwen.checkpoints.safetensors_file.json", None)
    assert source["model.norm.weight"].shape == (64,)
    assert source["model.embed_tokens.weight"].shape == (320, 64)


def test_weights_beside_those_of_the_index_are_not_used(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((tiny_checkpoint / "model.safetensors").read_bytes())
    write(tmp_path / "other.safetensors", {"model.norm.weight": tensor()})
    assert Source(tmp_path)["model.norm.weight"].shape == (64,)


def test_another_file_cannot_come_between_header_and_data(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": tensor()})
    file = TensorFile(path)
    write(tmp_path / "b", b"{}").replace(path)
    np.testing.assert_array_equal(file["a"], np.zeros(2, np.float32))


def test_a_file_that_shrinks_after_its_header_was_read_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": tensor(0, 1 << 20, [1 << 18])}, 1 << 20)
    file = TensorFile(path)
    os.truncate(path, 4096)
    with pytest.raises(IncompleteCheckpointError, match="has changed"):
        file["a"]


def test_native_code_gets_aligned_numbers(tmp_path: Path) -> None:
    header = {"a": tensor(0, 3, [3], "U8"), "b": tensor(3, 11)}
    assert as_float32(TensorFile(write(tmp_path / "a.safetensors", header, 11))["b"]).flags.aligned


@given(data=st.binary(max_size=400), length=st.integers(0, 1 << 64) | st.integers(0, 60))
def test_random_bytes_are_a_typed_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, length: int) -> None:
    file = tmp_path_factory.getbasetemp() / "random.safetensors"
    file.write_bytes(struct.pack("<Q", length % (1 << 64)) + data)
    with pytest.raises(CheckpointError):
        inspect(file)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 40) | st.floats() | st.sampled_from(["F32", "U8", "I64", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), JSON), size=st.integers(0, 16))
def test_random_headers_never_give_bytes_outside_the_file(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], size: int
) -> None:
    file = write(tmp_path_factory.getbasetemp() / "random.safetensors", header, size)
    try:
        mapped = MappedFile(file)
        for name in mapped.header.tensors:
            assert mapped[name].nbytes <= size
    except CheckpointError:
        pass
