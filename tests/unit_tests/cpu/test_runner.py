"""The CPU engine computes what the model says, and the same to the bit whatever else is in the step."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer
from transformers import AutoModelForCausalLM

from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine import Constraint, Request, SamplingParams, Token
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu import weights as weights_module
from langchain_qwen.engine.runners.cpu.library import INT4
from langchain_qwen.engine.runners.cpu.packing import unpack
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.weights import ModelWeights, load_weights
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.engine.sequence import Sequence
from langchain_qwen.errors import EngineError
from tests.tiny import make_tiny_checkpoint, tiny_tokenizer

WIDE = "int4 in super-blocks"  # of a model wide enough for them; the others are held in groups of 32
PRECISIONS = ["bf16", "int8", "int4", WIDE]


def load(folder: Path, precision: str, cache: Path) -> ModelWeights:
    config = json.loads((folder / "config.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        if precision != WIDE:  # the smallest groups, which few models need
            patch.setattr(weights_module, "int4_form", lambda _: (INT4, 32))
            patch.setattr(weights_module, "DEFAULT_GROUP", 32)
        return load_weights(
            folder,
            config,
            precision=precision.split()[0],
            fingerprint="tiny",
            cache_folder=cache,
            num_threads=2,
        )


@pytest.fixture(scope="module")
def folders(tiny_checkpoint, tmp_path_factory):
    wide = make_tiny_checkpoint(tmp_path_factory.mktemp("wide"), hidden_size=128)
    return {precision: wide if precision == WIDE else tiny_checkpoint for precision in PRECISIONS}


def start(weights: ModelWeights, precision: str, *, kernels: str | None = None, threads: int = 2) -> CpuRunner:
    runner = CpuRunner(weights, precision=precision, num_threads=threads, max_step_tokens=64, kernels=kernels)
    runner.allocate(64)
    return runner


@pytest.fixture(scope="module")
def loaded(folders, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    held = {precision: load(folder, precision, cache) for precision, folder in folders.items()}
    assert {held[WIDE].head.group, held[WIDE].layers[0].down.group} == {128, 256}
    return held


@pytest.fixture(scope="module")
def runners(loaded):
    started = {precision: start(weights, precision) for precision, weights in loaded.items()}
    yield started
    for runner in started.values():
        runner.close()


def round_activations(inputs: torch.Tensor, steps: int, columns: int) -> torch.Tensor:
    """As the quantised kernels see them."""
    groups = inputs.unflatten(-1, (-1, columns))
    scale = groups.abs().amax(-1, keepdim=True).clamp(min=1e-30) / steps
    return (torch.round(groups / scale) * scale).flatten(-2)


def unpack_all(parts) -> np.ndarray:
    return np.concatenate([unpack(part) for part in parts])


def test_the_inputs_of_the_matrices_are_those_that_transformers_has(folders, runners):
    folder, runner, tokens = folders["bf16"], runners["bf16"], [int(i) for i in np.arange(3, 40)]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = {}

    def note(name):
        return lambda module, args: expected.__setitem__(name, args[0][0].numpy())

    for i, layer in enumerate(model.model.layers):
        parts = {"qkv": layer.self_attn.q_proj, "out": layer.self_attn.o_proj}
        parts |= {"gate_up": layer.mlp.up_proj, "down": layer.mlp.down_proj}
        for name, module in parts.items():
            module.register_forward_pre_hook(note(f"{i}.{name}"))
    model.lm_head.register_forward_pre_hook(note("head"))
    with torch.inference_mode():
        model(torch.tensor([tokens]))
    blocks = list(range(4))
    found = {name: x.copy() for name, x in runner.step_inputs([Chunk(tokens, 0, blocks, len(tokens))]).items()}
    assert list(found) == [*(f"{i}.{x}" for i in range(2) for x in ("qkv", "out", "gate_up", "down")), "head"]
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=2e-2, atol=2e-2 * np.abs(expected[name]).max())
    # In two chunks, and with logits of a few tokens only, they are the same bits.
    first = runner.step_inputs([Chunk(tokens[:20], 0, blocks, 20, np.array([0]))])
    first = {name: x.copy() for name, x in first.items()}
    rest = runner.step_inputs([Chunk(tokens[20:], 20, blocks, 3)])
    for name, values in found.items():
        last = values[-3:] if name == "head" else values[20:]
        np.testing.assert_array_equal(np.concatenate([first[name], rest[name]]), np.concatenate([values[:20], last]))


def reference_logits(folder: Path, weights: ModelWeights, tokens: list[int], steps: int | None) -> np.ndarray:
    """transformers in fp32, with the weights that the packed ones stand for."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for i, layer in enumerate(weights.layers):
        block = model.model.layers[i]
        q, k, v = block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj
        qkv = torch.from_numpy(unpack_all(layer.qkv)).split([len(q.weight), len(k.weight), len(v.weight)])
        for linear, values in zip((q, k, v), qkv, strict=True):
            linear.weight.data = values
        block.self_attn.o_proj.weight.data = torch.from_numpy(unpack(layer.out))
        gate, up = torch.from_numpy(unpack_all(layer.gate_up)).chunk(2)
        block.mlp.gate_proj.weight.data, block.mlp.up_proj.weight.data = gate, up
        block.mlp.down_proj.weight.data = torch.from_numpy(unpack(layer.down))
    model.lm_head.weight = torch.nn.Parameter(torch.from_numpy(unpack(weights.head)))
    model.model.embed_tokens.weight = torch.nn.Parameter(torch.from_numpy(as_float32(weights.embedding)))
    if steps:
        columns = 128 if weights.head.format == library.K4 else 32
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(lambda _module, inputs: round_activations(inputs[0], steps, columns))
    for layer in model.model.layers:  # values are kept in fp16 (as are keys, after their rotation)
        layer.self_attn.v_proj.register_forward_hook(lambda _module, _inputs, output: output.half().float())
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].numpy()


def all_logits(runner: CpuRunner, tokens: list[int]) -> np.ndarray:
    blocks = list(range(-(-len(tokens) // BLOCK_SIZE)))
    return runner.step([Chunk(tokens, 0, blocks, len(tokens))]).copy()


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).mean() / np.abs(expected).mean())


TOKENS = [int(t) for t in np.random.default_rng(0).integers(0, 260, 50)]


def test_a_library_of_another_version_is_refused(monkeypatch):
    class Longer(ctypes.Structure):
        _fields_ = (*library.KV._fields_, ("more", ctypes.c_int64))

    monkeypatch.setitem(library.MIRRORS, "lq_kv", Longer)
    with pytest.raises(EngineError, match="install the package again"):
        library.load.__wrapped__()


ACTIVATION_STEPS = {"bf16": None, "int8": 8191, "int4": 127, WIDE: 127}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_are_those_of_transformers(folders, loaded, runners, precision):
    expected = reference_logits(folders[precision], loaded[precision], TOKENS, ACTIVATION_STEPS[precision])
    actual = all_logits(runners[precision], TOKENS)
    errors = np.abs(actual - expected).mean(1) / np.abs(expected).mean()
    if precision == "bf16":
        assert errors.max() < 0.005  # keys and values are fp16 here
    else:
        # An activation half-way between two codes may round the other way; where none does, nothing differs.
        assert errors.mean() < 0.03
        assert errors.min() < 1e-4
    assert (actual.argmax(1) == expected.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("precision", PRECISIONS)
def test_portable_kernels_agree(loaded, runners, precision):
    portable = start(loaded[precision], precision, kernels="portable")
    try:
        # An activation half-way between two codes may round the other way, so rare rows differ by more.
        assert relative_error(all_logits(portable, TOKENS), all_logits(runners[precision], TOKENS)) < 0.002
    finally:
        portable.close()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_number_of_threads_gives_the_same_bits(loaded, runners, precision):
    expected = all_logits(runners[precision], TOKENS)
    for threads in (1, 3, 5):
        runner = start(loaded[precision], precision, threads=threads)
        try:
            np.testing.assert_array_equal(all_logits(runner, TOKENS), expected)
        finally:
            runner.close()


@st.composite
def schedules(draw):
    """Several requests, each cut into chunks, with the chunks of all of them dealt out to steps."""
    requests = draw(st.lists(st.lists(st.integers(0, 259), min_size=1, max_size=40), min_size=1, max_size=4))
    cuts = [draw(st.lists(st.integers(1, 17), min_size=40, max_size=40)) for _ in requests]
    order = draw(st.lists(st.sets(st.integers(0, len(requests) - 1), min_size=1), min_size=60, max_size=60))
    return requests, cuts, order


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=40, deadline=None)
@given(schedule=schedules())
def test_bits_do_not_depend_on_batch_mates_or_chunks(runners, precision, schedule):
    runner = runners[precision]
    requests, cuts, order = schedule
    alone = [all_logits(runner, tokens) for tokens in requests]
    blocks = [[i * 8 + j for j in range(8)] for i in range(len(requests))]
    done = [0] * len(requests)
    together: list[list[np.ndarray]] = [[] for _ in requests]
    for step in [*order, *[set(range(len(requests)))] * 40]:
        chunks = []
        for i in sorted(step):
            count = min(cuts[i][done[i] % len(cuts[i])], len(requests[i]) - done[i])
            if count and sum(len(c.tokens) for _, c in chunks) + count <= 64:
                chunks.append((i, Chunk(requests[i][done[i] : done[i] + count], done[i], blocks[i], count)))
        if not chunks:
            continue
        rows = runner.step([chunk for _, chunk in chunks]).copy()
        for i, chunk in chunks:
            together[i].append(rows[: chunk.num_logits])
            rows = rows[chunk.num_logits :]
            done[i] += chunk.num_logits
    for expected, parts in zip(alone, together, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_allowed_tokens_have_the_logits_they_always_have(runners, precision):
    runner, blocks = runners[precision], [list(range(4)), list(range(4, 8))]

    def logits(*allowed):
        chunks = [Chunk(TOKENS[:9], 0, b, 1, a) for b, a in zip(blocks, allowed, strict=True)]
        return runner.step(chunks).copy()

    everything = logits(None, None)
    few, beyond = np.array([3, 4, 17]), np.array([5, 10**6])
    limited = logits(few, beyond)
    np.testing.assert_array_equal(limited[:, [3, 4, 5, 17]], everything[:, [3, 4, 5, 17]])
    assert np.isneginf(limited[:, 24:]).all()
    np.testing.assert_array_equal(logits(few, None), everything)


def test_a_grammar_that_leaves_few_tokens_changes_nothing_but_the_work(loaded, monkeypatch):
    vocabulary = LLTokenizer(tiny_tokenizer().to_str(), n_vocab=320, eos_token=264)
    constraint = Constraint(vocabulary, 'start: ("yes" | "no" | /[0-9]{1,8}/) " " /[a-z]+/')
    seeds = range(6)
    limited = []

    def answers():
        runner = start(loaded["int4"], "int4")
        step = runner.step
        runner.step = lambda chunks: limited.append([chunk.allowed for chunk in chunks]) or step(chunks)
        engine = LocalEngine(runner, model="tiny", context_window=512, num_blocks=64)
        requests = [
            Request((seed, 7), 20, frozenset([264]), SamplingParams(temperature=1.0, seed=seed), constraint=constraint)
            for seed in seeds
        ]
        with closing(engine), ThreadPoolExecutor(len(seeds)) as pool:
            return list(pool.map(lambda r: [e.id for e in engine.stream(r) if isinstance(e, Token)], requests))

    with_few = answers()
    assert any(allowed is not None for step in limited for allowed in step)
    monkeypatch.setattr(Sequence, "_look_ahead", lambda _self: None)
    assert with_few == answers()


def test_only_wanted_logits_come_back(runners):
    runner = runners["int4"]
    everything = all_logits(runner, TOKENS)
    blocks = list(range(4))
    last = runner.step([Chunk(TOKENS, 0, blocks, 1), Chunk(TOKENS[:12], 0, [8], 0)]).copy()
    np.testing.assert_array_equal(last, everything[-1:])


def test_a_step_beyond_the_buffers_is_refused(runners):
    with pytest.raises(EngineError, match="65 tokens"):
        runners["int4"].step([Chunk([1] * 65, 0, list(range(5)), 1)])


class TestCache:
    def test_second_start_maps_the_same_weights(self, tiny_checkpoint, tmp_path, monkeypatch):
        first = load(tiny_checkpoint, "int4", tmp_path)
        monkeypatch.setattr(weights_module, "pack", lambda *_: pytest.fail("packed again"))
        second = load(tiny_checkpoint, "int4", tmp_path)
        np.testing.assert_array_equal(first.head.data, second.head.data)

    @pytest.mark.parametrize("damage", ["flip", "cut", "foreign"])
    def test_a_damaged_file_is_made_anew(self, tiny_checkpoint, tmp_path, damage, caplog):
        expected = load(tiny_checkpoint, "int4", tmp_path).head.data.copy()
        (path,) = (tmp_path / "packed").iterdir()
        content = bytearray(path.read_bytes())
        if damage == "flip":
            content[-100] ^= 1
        elif damage == "cut":
            del content[-1000:]
        else:
            content[:] = b"something else"
        path.chmod(0o600)
        path.write_bytes(content)
        np.testing.assert_array_equal(load(tiny_checkpoint, "int4", tmp_path).head.data, expected)
        assert "cannot be used" in caplog.text

    def test_a_full_disk_costs_only_the_cache(self, tiny_checkpoint, tmp_path, monkeypatch, caplog):
        def full(*_args, **_kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(weights_module, "write_bytes", full)
        assert len(load(tiny_checkpoint, "int8", tmp_path).layers) == 2
        assert "could not be kept" in caplog.text
        assert not list((tmp_path / "packed").iterdir())

    def test_other_weights_have_their_own_file(self, tiny_checkpoint, tmp_path):
        other = make_tiny_checkpoint(tmp_path / "other", seed=1)
        a = load(tiny_checkpoint, "int4", tmp_path)
        config = json.loads((other / "config.json").read_text())
        b = load_weights(other, config, precision="int4", fingerprint="b", cache_folder=tmp_path, num_threads=1)
        assert not np.array_equal(a.head.data, b.head.data)


def test_blocks_that_were_read_can_be_written_elsewhere(runners):
    runner = runners["int8"]
    tokens = [(7 * n) % 250 for n in range(2 * BLOCK_SIZE)]
    runner.step([Chunk(tokens, 0, [5, 9], 0)])
    contents = runner.read([5, 9])
    assert contents.shape[:3] == (2, 2, 2)
    assert contents[:, :, 0].any()
    runner.write([20, 11], contents)
    after = Chunk([3], len(tokens), [5, 9, 30], 1), Chunk([3], len(tokens), [20, 11, 31], 1)
    here, there = (runner.step([chunk]).copy() for chunk in after)
    assert np.array_equal(here, there)
    assert not np.array_equal(runner.step([Chunk([3], len(tokens), [20, 40, 31], 1)]), here)


def test_it_runs_without_torch(tiny_checkpoint):
    code = (
        "import sys; from langchain_qwen import ChatQwen\n"
        f"model = ChatQwen(model={str(tiny_checkpoint)!r}, precision='int4', device='cpu', max_tokens=3)\n"
        "assert model.invoke('hello').usage_metadata['output_tokens'] <= 3\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs control over processors")
def test_more_threads_than_processors_do_not_keep_each_other_from_working(loaded):
    """They used to spin while the thread that they waited for had no processor: 12 times the work of one thread."""
    allowed = os.sched_getaffinity(0)

    def work(threads: int) -> tuple[float, np.ndarray]:
        os.sched_setaffinity(0, {min(allowed)})  # threads that are started now inherit it
        try:
            runner = start(loaded["int4"], "int4", threads=threads)
            began = time.process_time()
            for position in range(100):
                logits = runner.step([Chunk([5], position, list(range(8)), 1)]).copy()
            return time.process_time() - began, logits
        finally:
            os.sched_setaffinity(0, allowed)
            runner.close()

    (alone, expected), (crowded, logits) = work(1), work(8)
    assert crowded < 4 * alone + 0.1
    assert np.array_equal(logits, expected)
