from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2ForCausalLM

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, UnsafeWeightsError, UnsupportedModelError


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def drop(file: Path, key: str) -> None:
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != key}))


def shard(folder: Path) -> list[Path]:
    """Turn the one weight file into three with an index."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    files = [folder / f"model-0000{i + 1}-of-00003.safetensors" for i in range(3)]
    weight_map = {}
    for i, file in enumerate(files):
        part = {name: weights[name] for name in names[i::3]}
        save_file(part, file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    return files


def test_a_whole_folder(folder: Path) -> None:
    checkpoint = open_folder(folder)
    model = Qwen2ForCausalLM.from_pretrained(folder)
    assert checkpoint.name == str(folder)
    assert checkpoint.path == folder
    assert checkpoint.revision is None
    assert checkpoint.context_window == 2048
    assert checkpoint.vocab_size == model.get_input_embeddings().weight.shape[0]
    assert checkpoint.parameters == sum(p.numel() for p in model.parameters())
    assert checkpoint.parameter_bytes == 2 * checkpoint.parameters
    assert checkpoint.eos_token_ids == {266, 264}


def test_eos_falls_back_to_the_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    assert open_folder(folder).generation == {}
    assert open_folder(folder).eos_token_ids == {266}
    drop(folder / "config.json", "eos_token_id")
    assert open_folder(folder).eos_token_ids == frozenset()


def test_shards_count_as_one(folder: Path) -> None:
    one = open_folder(folder)
    files = shard(folder)
    many = open_folder(folder)
    assert many.weight_files == tuple(files)
    assert (many.parameters, many.parameter_bytes) == (one.parameters, one.parameter_bytes)


def test_fingerprint_names_the_weights(folder: Path, tmp_path: Path) -> None:
    first = open_folder(folder, "a").fingerprint
    assert open_folder(folder, "b").fingerprint == first
    assert open_folder(Path(os.path.relpath(folder))).fingerprint == first
    assert open_folder(shutil.copytree(folder, tmp_path / "other")).fingerprint == first  # with its times
    status = (folder / "model.safetensors").stat()
    os.utime(folder / "model.safetensors", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = open_folder(folder).fingerprint
    change(folder / "config.json", rms_norm_eps=1e-5)
    assert len({first, second, open_folder(folder).fingerprint}) == 3


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files_are_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(IncompleteCheckpointError, match=rf"lacks .*{file}.*langchain-qwen pull"):
        open_folder(folder)


def test_advice_names_the_model_that_was_asked_for(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(IncompleteCheckpointError, match=r"langchain-qwen pull coder-1.5b` to complete"):
        open_folder(folder, "coder-1.5b")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_json(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(IncompleteCheckpointError, match=rf"{file} is damaged"):
        open_folder(folder)


def test_config_without_sizes(folder: Path) -> None:
    drop(folder / "config.json", "max_position_embeddings")
    with pytest.raises(IncompleteCheckpointError, match="max_position_embeddings"):
        open_folder(folder)


def test_chat_template_in_either_place(folder: Path) -> None:
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    drop(folder / "tokenizer_config.json", "chat_template")
    with pytest.raises(IncompleteCheckpointError, match="chat template"):
        open_folder(folder)
    (folder / "chat_template.jinja").write_text(template)
    open_folder(folder)
    (folder / "tokenizer_config.json").unlink()
    open_folder(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        {"model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"]},
        {"architectures": ["Qwen2ForSequenceClassification"]},
        {"model_type": None},
    ],
)
def test_other_models_are_refused_by_name(folder: Path, changes: dict[str, Any]) -> None:
    change(folder / "config.json", **changes)
    (folder / "model.safetensors").unlink()  # said before anything else is looked at
    kind = (changes.get("architectures") or ["None"])[0]
    with pytest.raises(UnsupportedModelError, match=rf"{kind}.*Qwen2, Qwen2\.5"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "model.pth"])
def test_pickles_are_refused_unopened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cposix\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UnsafeWeightsError, match=rf"{name}.*convert"):
        open_folder(folder)


def test_pickles_beside_safetensors_are_ignored(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"whatever")
    (folder / "training_args.bin").write_bytes(b"whatever")
    assert open_folder(folder).weight_files == (folder / "model.safetensors",)


def test_code_of_the_folder_never_runs(folder: Path) -> None:
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (folder / "modeling_evil.py").write_text("raise SystemExit('this must not run')")
    open_folder(folder)


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
def test_cut_off_weights(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(IncompleteCheckpointError, match=r"model.safetensors is (cut off|damaged): it has [\d,]+ bytes"):
        open_folder(folder)


@pytest.mark.parametrize("header", [b"{", b"[]", b'{"a": {"dtype": "F32"}}', b"\xff\xff"])
def test_unreadable_header(folder: Path, header: bytes) -> None:
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"damaged|lack"):
        open_folder(folder)


def test_git_lfs_pointers_are_recognised(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(IncompleteCheckpointError, match="git lfs pull"):
        open_folder(folder)


def test_missing_shards_are_named(folder: Path) -> None:
    files = shard(folder)
    files[1].unlink()
    with pytest.raises(IncompleteCheckpointError, match=rf"lacks weights: {files[1].name}\."):
        open_folder(folder)


def test_shards_without_an_index(folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(IncompleteCheckpointError, match=r"lacks weights"):
        open_folder(folder)


def test_index_without_files(folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(IncompleteCheckpointError, match="names no weight files"):
        open_folder(folder)


def test_missing_tensors_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(IncompleteCheckpointError, match=r"lack 1 tensors \(model.layers.1.mlp.up_proj.weight"):
        open_folder(folder)


def test_untied_output_layer_must_be_there(folder: Path) -> None:
    change(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(IncompleteCheckpointError, match=r"lm_head"):
        open_folder(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"lm_head.weight": torch.zeros(320, 64)}, folder / "model.safetensors")
    open_folder(folder)
