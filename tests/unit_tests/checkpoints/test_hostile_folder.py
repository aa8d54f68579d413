"""Checkpoint folders made to do harm: each ends in an error that says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import pytest

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.errors import IncompleteCheckpointError
from langchain_qwen.regular_files import read_object


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_pipe_in_place_of_a_file_does_not_hang(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(IncompleteCheckpointError, match=r"no regular file|lacks tokenizer.json|lacks weights"):
        open_folder(folder)


@pytest.mark.parametrize("shard_name", ["../other/model.safetensors", "/etc/hostname", "weights.bin", "", 7, None])
def test_an_index_cannot_name_files_outside_its_folder(folder: Path, shard_name: object) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": shard_name, "b": "x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(IncompleteCheckpointError, match="no safetensors file of its folder"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_deeply_nested_json_is_damaged(folder: Path, name: str) -> None:
    (folder / name).write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(IncompleteCheckpointError, match=f"{name} is damaged"):
        open_folder(folder)


def test_a_small_file_takes_little_memory(tiny_checkpoint: Path) -> None:
    tracemalloc.start()
    read_object(tiny_checkpoint / "config.json")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4_000_000
