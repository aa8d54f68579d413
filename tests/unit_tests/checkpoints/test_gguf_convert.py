from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen2ForCausalLM

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.checkpoints.gguf_convert import as_bf16, convert
from langchain_qwen.checkpoints.gguf_metadata import SAMPLING_DEFAULTS, VISIBLE_TOKENS
from langchain_qwen.errors import UnsupportedModelError
from tests.unit_tests.checkpoints.gguf_files import gguf_name, write_gguf


def ignore(count: int) -> None:
    pass


@pytest.fixture(scope="module")
def converted(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert(write_gguf(tiny_checkpoint, folder / "tiny.gguf"), folder / "checkpoint", ignore)
    return folder / "checkpoint"


def test_tensors_survive_bit_for_bit(tiny_checkpoint: Path, converted: Path) -> None:
    before, after = load_file(tiny_checkpoint / "model.safetensors"), load_file(converted / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(after[name].dtype == torch.bfloat16 and torch.equal(before[name], after[name]) for name in before)


def test_rounding_to_bf16_is_that_of_torch() -> None:
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    edges = np.concatenate([upper + low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).view(np.float32)
    expected = torch.tensor(edges).to(torch.bfloat16)
    numbers = ~torch.isnan(expected)
    got = torch.tensor(as_bf16(edges).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(got[numbers].view(torch.int16), expected[numbers].view(torch.int16))
    assert torch.isnan(got[~numbers]).all()
    assert as_bf16(edges.reshape(4, -1)[:, ::2]).shape == (4, edges.size // 8)


def test_it_is_a_checkpoint_that_says_what_the_original_says(tiny_checkpoint: Path, converted: Path) -> None:
    original, copy = open_folder(tiny_checkpoint), open_folder(converted)
    assert copy.generation == {key: original.generation[key] for key in copy.generation}
    assert copy.generation.keys() >= SAMPLING_DEFAULTS.keys()
    assert copy.eos_token_ids == original.eos_token_ids
    assert copy.context_window == original.context_window
    assert copy.vocab_size == original.vocab_size
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
        assert copy.config[key] == original.config[key]
    assert copy.config["rms_norm_eps"] == 1e-6
    assert copy.config["rope_theta"] == 10_000.0


def test_transformers_computes_the_same_logits(tiny_checkpoint: Path, converted: Path) -> None:
    ids = torch.tensor([[264, 70, 71, 72, 265, 3]])
    expected, got = (Qwen2ForCausalLM.from_pretrained(p, dtype=torch.float32) for p in (tiny_checkpoint, converted))
    with torch.no_grad():
        assert torch.equal(expected(ids).logits, got(ids).logits)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["the in", "<|im_end|>", "<tool_call>", "e\u0301"]))))
def test_tokenizer_gives_the_same_ids(tiny_checkpoint: Path, converted: Path, pieces: list[str]) -> None:
    text = "".join(pieces)
    expected, got = (AutoTokenizer.from_pretrained(p) for p in (tiny_checkpoint, converted))
    ids = expected(text)["input_ids"]
    assert got(text)["input_ids"] == ids
    assert got.decode(ids, skip_special_tokens=True) == expected.decode(ids, skip_special_tokens=True)


def test_padding_rows_are_no_tokens_and_the_template_is_kept(tiny_checkpoint: Path, converted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(tiny_checkpoint)) < open_folder(converted).vocab_size
    assert len(tokenizer("[PAD300]")["input_ids"]) > 1
    original = json.loads((tiny_checkpoint / "tokenizer_config.json").read_text())
    assert tokenizer.chat_template == original["chat_template"]
    assert (tokenizer.eos_token, tokenizer.pad_token) == (original["eos_token"], original["pad_token"])


def test_the_output_layer_serves_as_embedding_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = write_gguf(tiny_checkpoint, tmp_path / "untied.gguf", spoilt_embedding=True)
    convert(source, tmp_path / "checkpoint", ignore)
    before, after = (load_file(p / "model.safetensors") for p in (tiny_checkpoint, tmp_path / "checkpoint"))
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert before.keys() == after.keys()


def test_quantised_matrices_and_progress(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langchain_qwen.checkpoints.gguf_convert.SLAB", 1000)  # several slabs a matrix, the last short
    source = write_gguf(tiny_checkpoint, tmp_path / "q8.gguf", quantization=gguf.GGMLQuantizationType.Q8_0)
    steps: list[int] = []
    convert(source, tmp_path / "checkpoint", steps.append)
    after = load_file(tmp_path / "checkpoint" / "model.safetensors")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    for name, tensor in after.items():
        whole = stored[gguf_name(name)]
        expected = torch.tensor(gguf.quants.dequantize(whole.data, whole.tensor_type)).to(torch.bfloat16)
        assert torch.equal(tensor, expected)
    assert sum(steps) == 2 * sum(tensor.numel() for tensor in after.values())
    assert len(steps) > len(after)


def test_other_architectures_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = write_gguf(tiny_checkpoint, tmp_path / "llama.gguf", architecture="llama")
    with pytest.raises(UnsupportedModelError, match="'llama'"):
        convert(source, tmp_path / "checkpoint", ignore)
    assert not (tmp_path / "checkpoint").exists()


def test_fill_in_the_middle_tokens_stay_visible(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in sorted(VISIBLE_TOKENS)])
    copy = tmp_path / "with-fim"
    copy.mkdir()
    for file in tiny_checkpoint.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tokenizer.save(str(copy / "tokenizer.json"))
    convert(write_gguf(copy, tmp_path / "fim.gguf"), tmp_path / "checkpoint", ignore)
    got = Tokenizer.from_file(str(tmp_path / "checkpoint" / "tokenizer.json"))
    special = {token.content: token.special for token in got.get_added_tokens_decoder().values()}
    assert not any(special[token] for token in VISIBLE_TOKENS)
    assert special["<|im_end|>"]
    assert not special["<tool_call>"]
