"""Our reader and writer of safetensors files agree with the format's own library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from langchain_qwen.checkpoints.safetensors_file import MappedFile, as_float32, write_bytes
from langchain_qwen.errors import IncompleteCheckpointError

NUMBERS = torch.linspace(-3, 70000, 24).reshape(4, 6)


def test_tensors_are_what_the_library_wrote(tmp_path):
    file = tmp_path / "a.safetensors"
    tensors = {
        "f32": NUMBERS,
        "bf16": NUMBERS.bfloat16(),
        "f16": (NUMBERS / 10).half(),
        "i32": NUMBERS.int(),
        "u8": torch.arange(7, dtype=torch.uint8),
        "scalar": torch.tensor(2.5),
    }
    save_file(tensors, file, metadata={"who": "me"})
    mapped = MappedFile(file)
    assert mapped.metadata == {"who": "me"}
    for name in ("f32", "f16", "i32", "u8", "scalar"):
        np.testing.assert_array_equal(mapped[name], tensors[name].numpy())
        assert mapped[name].dtype == tensors[name].numpy().dtype
    for name in ("f32", "bf16", "f16"):
        np.testing.assert_array_equal(as_float32(mapped[name]), tensors[name].float().numpy())
    assert not mapped["f32"].flags.writeable


def test_other_types_are_refused(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(3, dtype=torch.float64)}, file)
    with pytest.raises(IncompleteCheckpointError, match="F64"):
        MappedFile(file)["x"]


def test_the_library_reads_what_we_write(tmp_path):
    file = tmp_path / "a.safetensors"
    tensors = {"a": np.arange(5, dtype=np.uint8), "b": np.zeros((2, 3, 0), np.uint8), "ü": np.full((2, 3), 7, np.uint8)}
    write_bytes(file, tensors, {"k": "v"})
    again = load_file(file)
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor)
        np.testing.assert_array_equal(MappedFile(file)[name], tensor)
    assert MappedFile(file).metadata == {"k": "v"}
