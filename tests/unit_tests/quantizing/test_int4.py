"""A checkpoint becomes a GGUF file whose 4-bit weights were fitted to a text."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import open_folder
from langchain_qwen.checkpoints.folder import tensor_names
from langchain_qwen.checkpoints.gguf_blocks import dequantize
from langchain_qwen.checkpoints.rope import read_rope
from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.runners.cpu import fitting
from langchain_qwen.engine.runners.cpu.fitting import fit
from langchain_qwen.engine.runners.cpu.gguf import GgufSource
from langchain_qwen.engine.runners.cpu.source import Source
from langchain_qwen.errors import (
    CheckpointError,
    InvalidParameterError,
    MissingDependencyError,
    QwenError,
    UnsupportedModelError,
)
from langchain_qwen.prompting import Tokenizer
from langchain_qwen.quantizing import check_int4, gguf_writing, int4, quantize_int4
from tests.quantised import Variant, write_quantised
from tests.tiny import make_tiny_checkpoint

ROWS = [[int(t) for t in np.random.default_rng(i).integers(0, 260, 100)] for i in range(4)]
TEXT = "The naïve 北京 ferry\r\nleaves at  9:45; isn't it <tool_call> late?\tДа."


@pytest.fixture(scope="module", params=[64, 256], ids=["Q4_1", "Q4_K"])
def checkpoint(request, tmp_path_factory):
    return open_folder(make_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model", hidden_size=request.param))


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGCHAIN_QWEN_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def made(checkpoint, folder):
    return quantize_int4(checkpoint, folder / f"made-{checkpoint.config['hidden_size']}.gguf", ROWS)


def tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    return Tokenizer.from_folder(folder, vocab_size, ())


def test_what_the_file_says_is_what_the_folder_says(checkpoint, made):
    own = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    for key in (*own, "max_position_embeddings", "rms_norm_eps", "vocab_size", "eos_token_id", "bos_token_id"):
        assert made.config[key] == checkpoint.config[key], key
    assert read_rope(made.config, "made") == read_rope(checkpoint.config, "source")
    assert made.eos_token_ids == checkpoint.eos_token_ids
    for key in ("temperature", "top_p", "top_k", "repetition_penalty", "pad_token_id"):
        assert made.generation[key] == pytest.approx(checkpoint.generation[key]), key
    before, after = (json.loads((of.path / "tokenizer_config.json").read_text()) for of in (checkpoint, made))
    assert after["chat_template"] == before["chat_template"]
    assert after["eos_token"] == before["eos_token"]
    old, new = (tokenizer(of.path, checkpoint.vocab_size) for of in (checkpoint, made))
    assert new.encode(TEXT) == old.encode(TEXT)
    assert dict(new.control_tokens) == dict(old.control_tokens)


def test_every_tensor_is_the_fitted_one(checkpoint, made):
    products, source, file = int4.watch(checkpoint, ROWS), Source(checkpoint.path), GgufSource(made.gguf)
    kinds = Counter()
    with ThreadPoolExecutor(1) as pool:
        for name in (*tensor_names(checkpoint.config), "lm_head.weight"):
            weights = source["model.embed_tokens.weight" if name == "lm_head.weight" else name]
            kinds[file.kind(name).name] += 1
            if weights.ndim == 1:
                np.testing.assert_array_equal(file.vector(name, len(weights)), as_float32(weights))
            elif name == "model.embed_tokens.weight":
                values = as_float32(weights)
                steps = np.abs(values).reshape(len(values), -1, 32).max(2).repeat(32, 1) / 127
                assert (np.abs(dequantize(file.blocks(name), file.kind(name)) - values) <= 0.57 * steps).all()
            else:
                feeds = {
                    "q": "qkv",
                    "k": "qkv",
                    "v": "qkv",
                    "o": "out",
                    "gate": "gate_up",
                    "up": "gate_up",
                    "down": "down",
                }
                layer = name.split(".")
                matrix = "head" if len(layer) == 2 else f"{layer[2]}.{feeds[layer[4].removesuffix('_proj')]}"
                np.testing.assert_array_equal(file.blocks(name), fit(weights, products[matrix].means(), pool))
    wide = checkpoint.config["hidden_size"] == 256
    assert kinds == {"F32": 11, "Q8_0": 1, "Q4_K" if wide else "Q4_1": 15}


def test_each_token_is_seen_the_first_of_a_text_too(checkpoint):
    """The columns that only first tokens use are the ones that everything after them rests on."""
    one, both = (int4.watch(checkpoint, rows) for rows in ([ROWS[0][:1]], [ROWS[0][:1], ROWS[1]]))
    alone = int4.watch(checkpoint, [ROWS[1]])
    for name, products in both.items():
        weights = [1 / (1 + len(ROWS[1])), len(ROWS[1]) / (1 + len(ROWS[1]))]
        expected = weights[0] * one[name].squares() + weights[1] * alone[name].squares()
        np.testing.assert_allclose(products.squares(), expected, rtol=1e-3, atol=1e-6)


def test_others_read_it_too(made):
    reader = gguf.GGUFReader(made.gguf[0])
    assert reader.fields["general.architecture"].contents() == "qwen2"
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_K_S
    source = GgufSource(made.gguf)
    names = {tensor.name: tensor for tensor in reader.tensors}
    for own, theirs in (("lm_head", "output"), ("model.layers.1.mlp.down_proj", "blk.1.ffn_down")):
        tensor = names[f"{theirs}.weight"]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        name = f"{own}.weight"
        np.testing.assert_array_equal(dequantize(source.blocks(name), source.kind(name)), expected)


def test_a_model_answers_with_it(made):
    with ChatQwen(model=str(made.place), max_tokens=5, temperature=0) as model:
        assert model.invoke("Hi").usage_metadata["output_tokens"] > 0


def test_yarn_is_kept(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "long")
    config = json.loads((folder / "config.json").read_text())
    config["rope_scaling"] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(config))
    made = quantize_int4(open_folder(folder), tmp_path / "long.gguf", ROWS[:1])
    assert made.context_window == 8192
    assert read_rope(made.config, "made") == read_rope(config, "source")
    config["rope_scaling"]["beta_fast"] = 16.0
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="settings of YaRN"):
        check_int4(open_folder(folder), tmp_path / "other.gguf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("made", "name one whole file"),
        ("made-00001-of-00002.gguf", "name one whole file"),
        ("no/made.gguf", "there is no folder"),
    ],
)
def test_targets_that_cannot_be(checkpoint, tmp_path, name, message):
    with pytest.raises(InvalidParameterError, match=message):
        check_int4(checkpoint, tmp_path / name)


def test_files_are_not_overwritten(checkpoint, tmp_path):
    (tmp_path / "made.gguf").write_text("mine")
    with pytest.raises(InvalidParameterError, match="exists already"):
        quantize_int4(checkpoint, tmp_path / "made.gguf", ROWS)
    assert (tmp_path / "made.gguf").read_text() == "mine"


def test_quantised_sources_are_refused(checkpoint, tiny_checkpoint, made, tmp_path):
    folder = open_folder(write_quantised(tiny_checkpoint, tmp_path / "gptq", Variant()))
    for source in (folder, made):
        with pytest.raises(UnsupportedModelError, match="quantised already"):
            check_int4(source, tmp_path / "twice.gguf")


def test_more_ends_than_a_file_can_name(tmp_path):
    folder = make_tiny_checkpoint(tmp_path / "ends")
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": [1, 2, 3]}))
    with pytest.raises(UnsupportedModelError, match="3 different tokens"):
        check_int4(open_folder(folder), tmp_path / "made.gguf")


def test_what_is_missing_is_said_first(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(CheckpointError, match=r"0\.00 GB of disk are free"):
        check_int4(checkpoint, tmp_path / "made.gguf")
    monkeypatch.setattr("langchain_qwen.engine.runners.cpu.library.available", lambda: False)
    with pytest.raises(QwenError, match="the CPU engine was not built"):
        check_int4(checkpoint, tmp_path / "made.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"langchain-qwen\[gguf\]"):
        check_int4(checkpoint, tmp_path / "made.gguf")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_of_a_failure(checkpoint, tmp_path, monkeypatch, error):
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise error
        return fitting.fit(*arguments)

    monkeypatch.setattr(gguf_writing, "fit", failing)
    expected = KeyboardInterrupt if error is KeyboardInterrupt else CheckpointError
    with pytest.raises(expected):
        quantize_int4(checkpoint, tmp_path / "made.gguf", ROWS)
    assert not [path for path in tmp_path.iterdir() if "made" in path.name]
