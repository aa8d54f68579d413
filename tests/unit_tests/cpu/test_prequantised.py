"""GPTQ and AWQ checkpoints: the packed weights are those of the checkpoint, and the engine computes with them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.checkpoints.quantisation import Quantisation, own_precision, read_quantisation
from langchain_qwen.engine import loading
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.runners.cpu.library import INT4, INT8
from langchain_qwen.engine.runners.cpu.packing import Packed, unpack
from langchain_qwen.engine.runners.cpu.prequantised import Prequantised
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.source import Matrix, Source
from langchain_qwen.engine.runners.cpu.weights import ModelWeights, load_weights
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.errors import IncompleteCheckpointError, PrecisionError, UnsupportedModelError
from tests.quantised import LARGEST_RANGE, Variant, quantise, write_quantised

VARIANTS = {
    "gptq-4bit": Variant(),
    "gptq-4bit-bf16-scales": Variant(scales=torch.bfloat16),
    "gptq-4bit-g64": Variant(group_size=64),
    "gptq-4bit-per-channel": Variant(group_size=-1),
    "gptq-4bit-asym": Variant(sym=False),
    "gptq-v2-4bit-asym-act": Variant(sym=False, version=2, desc_act=True),
    "gptq-4bit-act": Variant(desc_act=True),
    "gptq-8bit": Variant(bits=8),
    "gptq-v2-8bit-asym": Variant(bits=8, sym=False, version=2),
    "gptq-8bit-act": Variant(bits=8, desc_act=True),
    "gptq-8bit-per-channel-asym": Variant(bits=8, group_size=-1, sym=False),
    "awq": Variant(method="awq", sym=False),
    "awq-g64": Variant(method="awq", sym=False, group_size=64),
}
TOKENS = [int(t) for t in np.random.default_rng(0).integers(0, 260, 40)]


def load(folder: Path, cache: Path) -> ModelWeights:
    config = json.loads((folder / "config.json").read_text())
    own = config["quantization_config"]
    return load_weights(
        folder,
        config,
        precision=own_precision("q", own, "auto"),
        fingerprint="q",
        cache_folder=cache,
        num_threads=2,
        quantisation=read_quantisation("q", own),
    )


def logits(weights: ModelWeights, *, kernels: str | None = None) -> np.ndarray:
    runner = CpuRunner(weights, precision="int4", num_threads=2, max_step_tokens=64, kernels=kernels)
    runner.allocate(64)
    try:
        blocks = list(range(-(-len(TOKENS) // BLOCK_SIZE)))
        return runner.step([Chunk(TOKENS, 0, blocks, len(TOKENS))]).copy()
    finally:
        runner.close()


def in_own_order(packed: Packed) -> np.ndarray:
    """The weights with the columns where the checkpoint has them."""
    weights = unpack(packed)
    return weights if packed.order is None else weights[:, np.argsort(packed.order)]


def dense_layers(folder: Path) -> dict[str, np.ndarray]:
    tensors = load_file(folder.with_name(folder.name + "-dense") / "model.safetensors")
    return {name.removesuffix(".weight"): tensor.numpy() for name, tensor in tensors.items()}


def largest_offset_error(bits: int) -> float:
    """Half the distance between neighbours in fp16, at the largest scale * zero that the writer makes."""
    largest_zero = 15 if bits == 4 else 128  # the kernels' 8-bit codes are signed
    offset = LARGEST_RANGE / ((1 << bits) - 1) * largest_zero
    return float(np.spacing(np.float16(offset))) / 2 * 1.001


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def folder(variant, tiny_checkpoint, tmp_path_factory):
    return write_quantised(tiny_checkpoint, tmp_path_factory.mktemp("quantised") / variant, VARIANTS[variant])


def test_the_layers_are_those_of_the_checkpoint(folder, variant, tmp_path):
    weights = load(folder, tmp_path)
    dense = dense_layers(folder)
    asked = VARIANTS[variant]
    for i, layer in enumerate(weights.layers):
        name = f"model.layers.{i}."
        qkv = np.concatenate([dense[f"{name}self_attn.{x}_proj"] for x in "qkv"])
        gate, up, down = (dense[f"{name}mlp.{x}_proj"] for x in ("gate", "up", "down"))
        order = np.arange(down.shape[1])
        if asked.desc_act:  # the rows of gate and up are in the order in which down wants them
            g_idx = load_file(folder / "model.safetensors")[f"{name}mlp.down_proj.g_idx"].numpy()
            order = np.argsort(g_idx, kind="stable")
            assert not np.array_equal(order, np.arange(len(order)))
            assert layer.qkv[0].order is not None
            assert layer.out.order is not None
        assert layer.down.order is None
        pairs = (
            (layer.qkv[0], qkv),
            (layer.out, dense[f"{name}self_attn.o_proj"]),
            (layer.gate_up[0], np.concatenate([gate[order], up[order]])),
            (layer.down, down[:, order]),
        )
        for packed, expected in pairs:
            assert packed.format == (INT4 if asked.bits == 4 else INT8)
            if asked.sym:
                np.testing.assert_array_equal(in_own_order(packed), expected)
            else:
                assert np.abs(in_own_order(packed) - expected).max() <= largest_offset_error(asked.bits)


def test_logits_are_those_of_transformers(folder, variant, tmp_path):
    dense = folder.with_name(folder.name + "-dense")
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
    with torch.inference_mode():
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    actual = logits(load(folder, tmp_path))
    # Activations have 8 bits here, and so has the head.
    assert np.abs(actual - expected).mean() / np.abs(expected).mean() < 0.04
    assert (actual.argmax(1) == expected.argmax(1)).mean() > 0.85


def test_portable_kernels_agree(folder, tmp_path):
    weights = load(folder, tmp_path)
    actual, expected = logits(weights, kernels="portable"), logits(weights)
    assert np.abs(actual - expected).mean() / np.abs(expected).mean() < 0.005


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), groups=st.integers(1, 3), data=st.data())
def test_random_layers_multiply_as_the_checkpoint_says(tmp_path_factory, seed, groups, data):
    """Against dequantise-and-multiply in float64, for every combination of settings."""
    held = data.draw(st.sampled_from([32, 64, 96, 128, 256]))
    method = data.draw(st.sampled_from(["gptq", "awq"]))
    gptq = method == "gptq"
    variant = Variant(
        method=method,
        bits=data.draw(st.sampled_from([4, 8])) if gptq else 4,
        group_size=data.draw(st.sampled_from([held, -1])),
        sym=data.draw(st.booleans()),
        desc_act=data.draw(st.booleans()) if gptq else False,
        version=data.draw(st.sampled_from([1, 2])),
    )
    rng = np.random.default_rng(seed)
    parts = quantise(variant, 16, groups * held, seed, rng)
    dense = parts.pop("dense")
    folder = tmp_path_factory.mktemp("layer")
    save_file({f"a.o_proj.{name}": tensor for name, tensor in parts.items()}, folder / "model.safetensors")
    maker = Prequantised(Source(folder), read_quantisation("q", variant.config))
    matrix = Matrix("0.out", ("a.o_proj",))
    form, order = maker.form(matrix), maker.order(matrix)
    with ThreadPoolExecutor(1) as pool:
        packed = maker.pack(matrix, pool)
    assert (packed.format, packed.group, packed.rows, packed.cols) == (form.format, form.group, form.rows, form.cols)
    x = rng.standard_normal(form.cols)
    product = unpack(packed).astype(np.float64) @ (x if order is None else x[order])
    # The codes and scales are exact, so all that may differ is the offset of each group.
    offset_error = 0 if variant.sym else largest_offset_error(variant.bits)
    assert np.abs(product - dense @ x).max() <= offset_error * np.abs(x).sum() + 1e-5


class TestFusedLayers:
    def test_own_orders_become_int8(self, tiny_checkpoint, tmp_path, caplog):
        folder = write_quantised(tiny_checkpoint, tmp_path / "q", Variant(desc_act=True), own_orders=True)
        weights = load(folder, tmp_path)
        assert "each in its own way" in caplog.text
        assert "q_proj" in caplog.text
        dense = dense_layers(folder)
        layer = weights.layers[0]
        assert (layer.qkv[0].format, layer.gate_up[0].format) == (INT8, INT8)
        assert (layer.out.format, layer.down.format) == (INT4, INT4)
        expected = np.concatenate([dense[f"model.layers.0.self_attn.{x}_proj"] for x in "qkv"])
        assert np.abs(in_own_order(layer.qkv[0]) - expected).max() <= np.abs(expected).max() / 127
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "q-dense", dtype=torch.float32)
        with torch.inference_mode():
            reference = model(torch.tensor([TOKENS])).logits[0].numpy()
        assert np.abs(logits(weights) - reference).mean() / np.abs(reference).mean() < 0.04

    def test_a_layer_that_was_left_out_becomes_int8(self, tiny_checkpoint, tmp_path, caplog):
        folder = write_quantised(tiny_checkpoint, tmp_path / "q", Variant(desc_act=True))
        tensors = load_bytes((folder / "model.safetensors").read_bytes())  # not mapped: it is written over
        dense = dense_layers(folder)
        for name in ("model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"):
            for part in ("qweight", "qzeros", "scales", "g_idx"):
                del tensors[f"{name}.{part}"]
            tensors[f"{name}.weight"] = torch.from_numpy(dense[name])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        layer = load(folder, tmp_path).layers[1]
        assert not caplog.text
        assert (layer.gate_up[0].format, layer.down.format) == (INT8, INT4)
        order = np.argsort(tensors["model.layers.1.mlp.down_proj.g_idx"].numpy(), kind="stable")
        expected = dense["model.layers.1.mlp.gate_proj"][order]
        assert np.abs(unpack(layer.gate_up[0])[: len(order)] - expected).max() <= np.abs(expected).max() / 127

    def test_a_quantised_head(self, tiny_checkpoint, tmp_path):
        variant = Variant(desc_act=True)
        folder = write_quantised(tiny_checkpoint, tmp_path / "q", variant)
        tensors = load_bytes((folder / "model.safetensors").read_bytes())
        parts = quantise(variant, *tensors["model.embed_tokens.weight"].shape, 3, np.random.default_rng(1))
        dense = parts.pop("dense")
        tensors.update({f"lm_head.{name}": tensor for name, tensor in parts.items()})
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        weights = load(folder, tmp_path)
        np.testing.assert_array_equal(in_own_order(weights.head), dense.astype(np.float32))
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "q-dense", dtype=torch.float32)
        model.lm_head.weight = torch.nn.Parameter(torch.from_numpy(dense).float())
        with torch.inference_mode():
            reference = model(torch.tensor([TOKENS])).logits[0].numpy()
        assert np.abs(logits(weights) - reference).mean() / np.abs(reference).mean() < 0.04


class TestEngine:
    def test_a_cpu_runs_them_natively(self, tiny_checkpoint, tmp_path, monkeypatch):
        monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path))
        checkpoint = open_folder(write_quantised(tiny_checkpoint, tmp_path / "q", Variant(bits=8)))
        for precision in ("auto", "int8"):
            engine = loading.load_engine(checkpoint, precision=precision, device="cpu", kv_cache_bytes=None)
            try:
                assert engine.info.precision == "int8"
            finally:
                engine.close()
        with pytest.raises(PrecisionError, match="8-bit GPTQ weights, which cannot become int4"):
            loading.load_engine(checkpoint, precision="int4", device="cpu", kv_cache_bytes=None)

    def test_the_second_start_maps_what_the_first_packed(self, tiny_checkpoint, tmp_path, monkeypatch):
        folder = write_quantised(tiny_checkpoint, tmp_path / "q", Variant(desc_act=True))
        first = load(folder, tmp_path)
        monkeypatch.setattr(Prequantised, "pack", lambda *_: pytest.fail("packed again"))
        second = load(folder, tmp_path)
        np.testing.assert_array_equal(first.layers[0].qkv[0].data, second.layers[0].qkv[0].data)
        np.testing.assert_array_equal(first.layers[0].qkv[0].order, second.layers[0].qkv[0].order)
        np.testing.assert_array_equal(logits(first), logits(second))


class TestRefusals:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"quant_method": "fp8"}, "quantised with 'fp8'"),
            ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "3 bits"),
            ({"quant_method": "awq", "bits": 8, "group_size": 128}, "8 bits"),
            ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}, "layout 'gemv'"),
            ({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"}, "layout 'marlin'"),
            ({"quant_method": "gptq", "bits": 4, "group_size": 128, "is_marlin_format": True}, "layout 'marlin'"),
            ({"quant_method": "gptq", "bits": 4, "group_size": 16}, "groups of 16"),
            ({"quant_method": "gptq", "bits": 4}, "groups of None"),
            ({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*": {}}}, "layer to layer"),
            ({"quant_method": "gptq", "bits": 4, "group_size": 128, "pack_dtype": "int16"}, "int16"),
        ],
    )
    def test_unknown_variants(self, config, message):
        with pytest.raises(UnsupportedModelError, match=message) as caught:
            read_quantisation("q", config)
        assert "release without quantisation" in str(caught.value)

    def test_known_variants(self):
        assert read_quantisation("q", {"quant_method": "gptq", "bits": 4, "group_size": 128}) == Quantisation(
            "gptq", 4, 128, 1
        )
        v2 = {"quant_method": "gptq", "bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2", "dynamic": None}
        assert read_quantisation("q", v2) == Quantisation("gptq", 8, -1, 0)
        old = {"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM"}
        assert read_quantisation("q", old) == Quantisation("awq", 4, 64, 0)

    def change(self, tiny_checkpoint, tmp_path, **changed):
        folder = write_quantised(tiny_checkpoint, tmp_path / "q", Variant(group_size=64))
        tensors = load_bytes((folder / "model.safetensors").read_bytes())
        for name, change in changed.items():
            full = f"model.layers.0.self_attn.o_proj.{name}"
            if change is None:
                del tensors[full]
            else:
                tensors[full] = change(tensors.get(full))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    @pytest.mark.parametrize("part", ["scales", "qzeros"])
    def test_missing_parts(self, tiny_checkpoint, tmp_path, part):
        folder = self.change(tiny_checkpoint, tmp_path, **{part: None})
        with pytest.raises(IncompleteCheckpointError, match=f"lacks the tensor .*o_proj.{part}"):
            load(folder, tmp_path)

    @pytest.mark.parametrize("part", ["scales", "qzeros"])
    def test_parts_of_another_shape(self, tiny_checkpoint, tmp_path, part):
        folder = self.change(tiny_checkpoint, tmp_path, **{part: lambda t: t[:, :4].contiguous()})
        with pytest.raises(IncompleteCheckpointError, match="another shape"):
            load(folder, tmp_path)

    def test_weights_of_another_shape(self, tiny_checkpoint, tmp_path):
        folder = self.change(tiny_checkpoint, tmp_path, qweight=lambda t: torch.cat([t, t]))
        with pytest.raises(IncompleteCheckpointError, match=r"o_proj are 64 x 128, and 64 x 64 by config.json"):
            load(folder, tmp_path)

    def test_groups_of_unequal_size(self, tiny_checkpoint, tmp_path):
        folder = self.change(tiny_checkpoint, tmp_path, g_idx=lambda t: torch.ones_like(t))
        with pytest.raises(UnsupportedModelError, match="64 columns into each group"):
            load(folder, tmp_path)

    def test_scales_beyond_fp16(self, tiny_checkpoint, tmp_path):
        folder = self.change(tiny_checkpoint, tmp_path, scales=lambda t: t.float() * 1e6)
        with pytest.raises(UnsupportedModelError, match="fp16 cannot hold"):
            load(folder, tmp_path)

    def test_a_bias_that_the_model_does_not_have(self, tiny_checkpoint, tmp_path):
        folder = self.change(tiny_checkpoint, tmp_path, bias=lambda _: torch.ones(64))
        with pytest.raises(UnsupportedModelError, match="has a bias"):
            load(folder, tmp_path)

    def test_a_bias_of_zeros_is_what_some_tools_write(self, tiny_checkpoint, tmp_path):
        folder = self.change(tiny_checkpoint, tmp_path, bias=lambda _: torch.zeros(64))
        assert len(load(folder, tmp_path).layers) == 2
