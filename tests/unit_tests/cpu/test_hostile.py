"""A checkpoint that was made to harm reaches no native code: every tensor and number is checked before it is used."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.weights import ModelWeights, load_weights
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.engine.runners.torch.load import load_model
from langchain_qwen.engine.runners.torch.runner import ATTENTION, TransformersRunner
from langchain_qwen.errors import EngineError, IncompleteCheckpointError, QwenError, UnsupportedModelError
from tests.damage import bf16, copy_with

PRECISIONS = ["bf16", "int8", "int4"]
TOKENS = [int(t) for t in np.random.default_rng(0).integers(0, 260, 40)]


def load(folder: Path, precision: str = "int4") -> ModelWeights:
    config = json.loads((folder / "config.json").read_text())
    return load_weights(
        folder, config, precision=precision, fingerprint="x", cache_folder=folder / "cache", num_threads=2
    )


def start(weights: ModelWeights, *, kernels: str | None = None) -> CpuRunner:
    runner = CpuRunner(weights, precision="int4", num_threads=2, max_step_tokens=64, kernels=kernels)
    runner.allocate(8)
    return runner


def logits(runner: Any, tokens: list[int]) -> np.ndarray:
    blocks = list(range(-(-len(tokens) // BLOCK_SIZE)))
    rows: np.ndarray = runner.step([Chunk(tokens, 0, blocks, len(tokens))]).copy()
    return rows


def attention_of(size: int, heads: int = 4, kv_heads: int = 2) -> dict[str, np.ndarray]:
    """The tensors of both layers' attention with heads of another size."""
    tensors = {}
    for i in range(2):
        name = f"model.layers.{i}.self_attn."
        for x, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            tensors[f"{name}{x}_proj.weight"] = bf16(count * size, 64, seed=i)
            tensors[f"{name}{x}_proj.bias"] = bf16(count * size, seed=i)
        tensors[f"{name}o_proj.weight"] = bf16(64, heads * size, seed=i)
    return tensors


@pytest.mark.parametrize("kernels", [None, "portable"])
def test_wide_heads_do_not_overrun_the_stack(tiny_checkpoint, tmp_path, kernels):
    """Heads of 384 numbers wrote weights over the return address; they are computed like any others."""
    folder = copy_with(tiny_checkpoint, tmp_path / "c", config={"head_dim": 384}, tensors=attention_of(384))
    runner = start(load(folder, "bf16"), kernels=kernels)
    model, held = load_model(open_folder(folder), precision="fp32", device="cpu", attn_implementation=ATTENTION)
    reference = TransformersRunner(model, held)
    reference.allocate(8)
    actual, expected = logits(runner, TOKENS), logits(reference, TOKENS)
    runner.close()
    assert np.abs(actual - expected).mean() < 0.005 * np.abs(expected).mean()


@pytest.mark.parametrize("size", [8, 24, 40])
def test_heads_that_the_kernels_would_read_beyond_are_refused(tiny_checkpoint, tmp_path, size):
    config = {"head_dim": size, "num_attention_heads": 8, "num_key_value_heads": 4}
    folder = copy_with(tiny_checkpoint, tmp_path / "c", config=config, tensors=attention_of(size, 8, 4))
    open_folder(folder)  # transformers can run it
    with pytest.raises(UnsupportedModelError, match="multiples of 16"):
        load(folder)


ATTENTION_0, MLP_0 = "model.layers.0.self_attn.", "model.layers.0.mlp."
NARROW_EMBEDDING = {"lm_head.weight": bf16(320, 64), "model.embed_tokens.weight": bf16(320, 32)}


@pytest.mark.parametrize(
    "tensors",
    [
        NARROW_EMBEDDING,
        NARROW_EMBEDDING | {"model.embed_tokens.weight": bf16(319, 64)},
        {"model.norm.weight": bf16(8)},
        {"model.norm.weight": bf16(64, 1)},
        {"model.layers.1.input_layernorm.weight": bf16(63)},
        {"model.layers.1.post_attention_layernorm.weight": bf16(1)},
        {ATTENTION_0 + "q_proj.bias": bf16(8)},
        {ATTENTION_0 + "q_proj.bias": bf16(32), ATTENTION_0 + "k_proj.bias": bf16(64)},
        {MLP_0 + "up_proj.weight": bf16(128, 32)},
        {MLP_0 + "up_proj.weight": bf16(64, 128)},
        {ATTENTION_0 + "k_proj.weight": bf16(4, 64), ATTENTION_0 + "v_proj.weight": bf16(60, 64)},
        {ATTENTION_0 + "o_proj.weight": bf16(64 * 64)},
        {MLP_0 + "down_proj.weight": bf16(64, 128).astype(np.int32)},
        {"model.norm.weight": bf16(64).astype(np.int32)},
        {"model.embed_tokens.weight": bf16(320, 64).astype(np.uint8)},
    ],
    ids=lambda tensors: "-".join(f"{name.split('.')[-2]}{t.shape}" for name, t in tensors.items()),
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_tensor_of_another_shape_or_type_is_read(tiny_checkpoint, tmp_path, tensors, precision):
    """The native code read beyond their ends, and put what it found there into the weights it keeps."""
    folder = copy_with(tiny_checkpoint, tmp_path / "c", tensors=tensors)
    with pytest.raises(IncompleteCheckpointError, match=r"should (have|hold)|by config\.json"):
        load(folder, precision)


@pytest.mark.parametrize("name", ["model.norm.weight", ATTENTION_0 + "k_proj.bias", MLP_0 + "down_proj.weight"])
@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_weights_that_are_not_finite(tiny_checkpoint, tmp_path, name, bits, precision):
    shape = {"model.norm.weight": (64,), ATTENTION_0 + "k_proj.bias": (32,)}.get(name, (64, 128))
    tensor = bf16(*shape)
    tensor.reshape(-1)[17] = bits
    folder = copy_with(tiny_checkpoint, tmp_path / "c", tensors={name: tensor})
    with pytest.raises(IncompleteCheckpointError, match=r"infinity"):
        load(folder, precision)


def test_no_embedding_that_is_not_finite(tiny_checkpoint, tmp_path):
    embedding = bf16(320, 64)
    embedding[300, 3] = 0x7FC0
    for tensors in ({}, {"lm_head.weight": bf16(320, 64)}):
        folder = copy_with(
            tiny_checkpoint, tmp_path / f"c{len(tensors)}", tensors=tensors | {"model.embed_tokens.weight": embedding}
        )
        with pytest.raises(IncompleteCheckpointError, match="infinity"):
            load(folder)


def test_no_scales_beyond_fp16(tiny_checkpoint, tmp_path):
    weights = bf16(64, 128).astype(np.float32) * np.float32(1e30)
    folder = copy_with(tiny_checkpoint, tmp_path / "c", tensors={MLP_0 + "down_proj.weight": weights})
    for precision in ("int8", "int4"):
        with pytest.raises(IncompleteCheckpointError, match="beyond what can be held"):
            load(folder, precision)


def test_files_that_the_index_does_not_name_are_not_weights(tiny_checkpoint, tmp_path):
    """transformers does not read them either; they replaced tensors of the same name."""
    expected = logits(start(load(copy_with(tiny_checkpoint, tmp_path / "a"))), TOKENS)
    folder = copy_with(tiny_checkpoint, tmp_path / "b")
    other = copy_with(tiny_checkpoint, tmp_path / "c", tensors={"model.embed_tokens.weight": bf16(320, 64)})
    (other / "model.safetensors").rename(folder / "zz.safetensors")
    np.testing.assert_array_equal(logits(start(load(folder)), TOKENS), expected)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10_000.0}


def test_yarn_is_computed_as_transformers_does(tiny_checkpoint, tmp_path):
    """It was ignored in silence, with other answers than the model's."""
    config = {"max_position_embeddings": 32, "rope_parameters": YARN}
    folder = copy_with(tiny_checkpoint, tmp_path / "c", config=config)
    checkpoint = open_folder(folder)
    model, held = load_model(checkpoint, precision="fp32", device="cpu", attn_implementation=ATTENTION)
    reference = TransformersRunner(model, held)
    reference.allocate(8)
    runner, plain = start(load(folder, "bf16")), start(load(copy_with(tiny_checkpoint, tmp_path / "p"), "bf16"))
    with torch.inference_mode():
        expected = logits(reference, TOKENS)
    size = np.abs(expected).mean()
    assert checkpoint.context_window == 128
    assert np.abs(logits(runner, TOKENS) - expected).mean() < 0.005 * size
    assert np.abs(logits(plain, TOKENS) - expected).mean() > 0.05 * size


class TestStep:
    @pytest.fixture
    def runner(self, tiny_checkpoint, tmp_path):
        runner = start(load(copy_with(tiny_checkpoint, tmp_path / "c")))
        yield runner
        runner.close()

    @pytest.mark.parametrize(
        "chunk",
        [
            Chunk([320], 0, [0], 1),
            Chunk([-1], 0, [0], 1),
            Chunk([1], 0, [8], 1),
            Chunk([1], 0, [-1], 1),
            Chunk([1] * 17, 0, [0], 1),
            Chunk([1], 16, [0], 1),
            Chunk([1], -1, [0], 1),
            Chunk([1], 128, [*range(8), 0], 1),
            Chunk([1], 0, [0], 2),
        ],
    )
    def test_nothing_outside_of_the_memory(self, runner, chunk):
        with pytest.raises(EngineError):
            runner.step([chunk])

    def test_products_within_the_buffers(self, runner):
        with pytest.raises(EngineError, match="65 tokens"):
            runner.multiply_all(65)


class TestNative:
    """What Python would have to get wrong first, the library refuses too."""

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda m: setattr(m, "head_dim", 24), "head"),
            (lambda m: setattr(m, "head_dim", 4096), "head"),
            (lambda m: setattr(m, "num_layers", 10**9), "layers"),
            (lambda m: setattr(m, "num_layers", 0), "layers"),
            (lambda m: setattr(m, "hidden", -64), "hidden"),
            (lambda m: setattr(m, "heads", 3), "heads"),
            (lambda m: setattr(m, "kv_heads", 0), "heads"),
            (lambda m: setattr(m, "vocab", 2**31 - 1), "vocabulary"),
            (lambda m: setattr(m, "ffn", 160), "gate_up"),
            (lambda m: setattr(m, "norm_eps", float("nan")), "epsilon"),
            (lambda m: setattr(m, "final_norm", None), "norm"),
            (lambda m: setattr(m.layers[1].out, "bytes", 1), "out"),
            (lambda m: setattr(m.layers[1].down, "data", None), "down"),
            (lambda m: setattr(m.layers[1].qkv[0], "group", 4096), "qkv"),
            (lambda m: setattr(m.head, "format", 7), "head"),
            (lambda m: setattr(m.layers[0].qkv[0], "order", m.layers[0].attention_norm), "qkv"),
            (lambda m: setattr(m.layers[0], "ffn_norm", None), "norm"),
        ],
    )
    def test_a_model_that_would_be_read_beyond_its_memory(self, tiny_checkpoint, tmp_path, monkeypatch, change, named):
        runner = CpuRunner(
            load(copy_with(tiny_checkpoint, tmp_path / "c")), precision="int4", num_threads=2, max_step_tokens=64
        )
        make = runner._model

        def changed() -> library.Model:
            model = make()
            change(model)
            return model

        monkeypatch.setattr(runner, "_model", changed)
        with pytest.raises(UnsupportedModelError, match=named):
            runner.allocate(8)

    @pytest.mark.parametrize("name", ["int4", "int8", "bf16"])
    @pytest.mark.parametrize("shape", [(7, 64, 32), (8, 64, 0), (8, 64, 2048), (8, 63, 32), (0, 64, 32), (-8, 64, 32)])
    def test_packers_refuse_what_they_would_write_beyond(self, name, shape):
        assert getattr(library.load(), f"lq_pack_{name}")(None, *shape, None) == library.NO_SUCH_SHAPE


def moved(fields: Any) -> Any:
    (first, a), (second, b), *rest = fields
    return ((second, b), (first, a), *rest)


@pytest.mark.parametrize("name", library.MIRRORS)
@pytest.mark.parametrize(
    "change",
    [
        moved,
        lambda fields: fields[:-1],
        lambda fields: (*fields, ("more", ctypes.c_int64)),
        lambda fields: ((fields[0][0] + "_", fields[0][1]), *fields[1:]),
    ],
    ids=["moved", "shorter", "longer", "renamed"],
)
def test_a_mirror_that_differs_in_one_field_is_refused(monkeypatch, name, change):
    """Sizes alone do not show fields that changed places."""
    mirror = library.MIRRORS[name]
    other = type("Other", (ctypes.Structure,), {"_fields_": tuple(change(tuple(mirror._fields_)))})
    monkeypatch.setitem(library.MIRRORS, name, other)
    with pytest.raises(EngineError, match=f"{name}.*install the package again"):
        library.load.__wrapped__()


def test_a_file_that_is_no_library_is_refused(monkeypatch, tmp_path):
    (tmp_path / "x.so").write_bytes(b"no library")
    monkeypatch.setattr(library, "PATH", tmp_path / "x.so")
    with pytest.raises(QwenError, match="install the package again"):
        library.load.__wrapped__()
