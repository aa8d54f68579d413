"""Which weights they are: other ones never give old answers."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.checkpoints.identity import fingerprint


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def test_other_weights_of_the_same_size_and_time_never_give_old_answers(folder: Path) -> None:
    file = folder / "model.safetensors"
    os.utime(file, (1, 1))  # as in images, whose times are a constant
    seen = {open_folder(folder).fingerprint}
    original = load_file(file)
    for name, tensor in original.items():
        save_file(original | {name: tensor * 2 + 1}, file, metadata={"format": "pt"})
        os.utime(file, (1, 1))
        seen.add(open_folder(folder).fingerprint)
    assert len(seen) == 1 + len(original)


def test_the_fingerprint_of_a_large_file_is_cheap(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    size = 3 << 30
    header = json.dumps(
        {
            str(i): {"dtype": "U8", "shape": [size // 512], "data_offsets": [i * size // 512, (i + 1) * size // 512]}
            for i in range(512)
        }
    ).encode()
    with file.open("wb") as stream:  # a hole: no disk, but the work of reading is done
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + size)
    fingerprint({}, [file])
    start = time.process_time()
    first = fingerprint({}, [file])
    assert time.process_time() - start < 0.2  # 20 ms where nothing else runs; a hash of everything takes 2 s
    with file.open("r+b") as stream:
        stream.seek(8 + len(header) + size - 1)
        stream.write(b"x")
    os.utime(file, ns=(0, 0))
    second = fingerprint({}, [file])
    with file.open("r+b") as stream:
        stream.seek(8 + len(header) + size - 1)
        stream.write(b"y")
    os.utime(file, ns=(0, 0))
    assert len({first, second, fingerprint({}, [file])}) == 3
