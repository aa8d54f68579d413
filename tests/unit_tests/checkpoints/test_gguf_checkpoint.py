"""A GGUF file as a model: what it says is read, checked, and compared with what transformers computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from langchain_core.messages import HumanMessage
from transformers import AutoTokenizer

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import open_folder, pull, resolve
from langchain_qwen.checkpoints.hub import choose_gguf
from langchain_qwen.errors import (
    IncompleteCheckpointError,
    InvalidParameterError,
    ModelNotFoundError,
    PrecisionError,
    UnsupportedModelError,
)
from tests.unit_tests.checkpoints.gguf_files import write_gguf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_says_what_the_original_says(tiny_checkpoint: Path, tmp_path: Path, cache: Path) -> None:
    file = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf", quantization=Type.Q8_0)
    original, checkpoint = open_folder(tiny_checkpoint), resolve(str(file))
    assert (checkpoint.name, checkpoint.gguf, checkpoint.place) == (str(file), (file,), file)
    assert checkpoint.path.parent == cache / "gguf"
    assert checkpoint.eos_token_ids == original.eos_token_ids
    assert checkpoint.context_window == original.context_window
    assert checkpoint.vocab_size == original.vocab_size
    assert checkpoint.parameters == original.parameters
    assert checkpoint.generation.items() >= {"temperature": 0.7, "top_p": 0.8, "top_k": 20}.items()
    ours, theirs = AutoTokenizer.from_pretrained(checkpoint.path), AutoTokenizer.from_pretrained(tiny_checkpoint)
    for text in ("The other one, <|im_end|>", "e\u0301 <tool_call>\n\n  12 ", ""):
        assert ours.encode(text) == theirs.encode(text)
    assert ours.chat_template == theirs.chat_template


def test_the_small_files_are_made_once_and_the_weights_name_the_caches(tiny_checkpoint: Path, tmp_path: Path) -> None:
    one = resolve(str(write_gguf(tiny_checkpoint, tmp_path / "a.gguf", quantization=Type.Q8_0)))
    made = (one.path / "tokenizer.json").stat().st_mtime_ns
    again = resolve(str(tmp_path / "a.gguf"))
    assert (again.path, again.fingerprint) == (one.path, one.fingerprint)
    assert (one.path / "tokenizer.json").stat().st_mtime_ns == made
    other = resolve(str(write_gguf(tiny_checkpoint, tmp_path / "b.gguf", quantization=Type.Q5_0)))
    assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1])
def test_it_answers(tiny_checkpoint: Path, tmp_path: Path, kind: Type) -> None:
    file = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf", quantization=kind)
    with ChatQwen(model=str(file), temperature=0, max_tokens=5) as model:
        answer = model.invoke("hello")
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["output_tokens"] <= 5
        assert model.profile is not None
        assert model.profile["max_input_tokens"] == open_folder(tiny_checkpoint).context_window
        if kind == Type.F32:  # whose weights are bf16 numbers
            with ChatQwen(model=str(tiny_checkpoint), precision="bf16", temperature=0, max_tokens=5) as other:
                assert other.invoke("hello").text == answer.text
                messages = [HumanMessage("hello")]
                assert other.get_num_tokens_from_messages(messages) == model.get_num_tokens_from_messages(messages)


@pytest.mark.parametrize("precision", ["int4", "int8", "bf16", "fp32"])
def test_another_precision_is_refused(tiny_checkpoint: Path, tmp_path: Path, precision: str) -> None:
    file = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf", quantization=Type.Q8_0)
    model = ChatQwen(model=str(file), precision=precision)
    with pytest.raises(PrecisionError, match=rf"is a GGUF file, .*precision='{precision}'"):
        model.invoke("hello")


def test_bitsandbytes_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf", quantization=Type.Q8_0)
    model = ChatQwen(model=str(file), quantization_config={"load_in_8bit": True})
    with pytest.raises(PrecisionError, match="bitsandbytes"):
        model.invoke("hello")


def test_a_revision_goes_with_a_hub(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf")
    with pytest.raises(InvalidParameterError, match="revision"):
        resolve(str(file), revision="main")


def test_a_folder_with_one_file_is_that_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = write_gguf(tiny_checkpoint, folder / "a-q8_0.gguf", quantization=Type.Q8_0)
    assert resolve(str(folder)).gguf == (file,)
    shutil.copy(file, folder / "b.gguf")
    with pytest.raises(ModelNotFoundError, match=r"several GGUF files; .* a-q8_0\.gguf, b\.gguf"):
        resolve(str(folder))


def split(source: Path, folder: Path, parts: int = 3) -> list[Path]:
    """As llama.cpp's tool splits a file: all metadata in the first part."""
    reader = gguf.GGUFReader(source)
    files = [folder / f"model-{number:05}-of-{parts:05}.gguf" for number in range(1, parts + 1)]
    for number, file in enumerate(files):
        writer = gguf.GGUFWriter(file, "qwen2")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", parts)
        for name, field in reader.fields.items():
            if number or name.startswith("GGUF.") or name == "general.architecture":
                continue
            kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), kind, sub_type=inner)
        for tensor in reader.tensors[number::parts]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return files


def test_split_files(tiny_checkpoint: Path, tmp_path: Path) -> None:
    whole = write_gguf(tiny_checkpoint, tmp_path / "whole.gguf", quantization=Type.Q8_0)
    (tmp_path / "parts").mkdir()
    files = split(whole, tmp_path / "parts")
    assert resolve(str(files[1])).gguf == tuple(files)
    assert resolve(str(tmp_path / "parts")).gguf == tuple(files)
    with (
        ChatQwen(model=str(whole), temperature=0, max_tokens=5) as one,
        ChatQwen(model=str(files[0]), temperature=0, max_tokens=5) as other,
    ):
        assert one.invoke("hello").text == other.invoke("hello").text
    shutil.copy(files[0], tmp_path / "renamed.gguf")
    with pytest.raises(IncompleteCheckpointError, match="part 0 of 3"):
        resolve(str(tmp_path / "renamed.gguf"))
    files[2].unlink()
    with pytest.raises(IncompleteCheckpointError, match="lacks model-00003-of-00003"):
        resolve(str(files[0]))


def changed(tiny_checkpoint: Path, file: Path, change: Callable[[gguf.GGUFWriter], None]) -> Path:
    """The tiny model with keys overwritten before they are written."""
    original = gguf.GGUFWriter.write_header_to_file

    def write(self: gguf.GGUFWriter, *args: Any) -> None:
        change(self)
        original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "write_header_to_file", write)
        return write_gguf(tiny_checkpoint, file)


def put(key: str, value: Any, kind: gguf.GGUFValueType) -> Callable[[gguf.GGUFWriter], None]:
    def change(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0][key] = gguf.gguf_writer.GGUFValue(value=value, type=kind)

    return change


def drop(key: str) -> Callable[[gguf.GGUFWriter], None]:
    return lambda writer: writer.kv_data[0].pop(key) and None


def rename_tensor(old: str, new: str) -> Callable[[gguf.GGUFWriter], None]:
    def change(writer: gguf.GGUFWriter) -> None:
        writer.tensors[0][new] = writer.tensors[0].pop(old)

    return change


U32, F32, STRING = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.STRING


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (put("general.architecture", "llama", STRING), UnsupportedModelError, "'llama' model"),
        (put("tokenizer.ggml.model", "llama", STRING), UnsupportedModelError, "tokenizer of the kind 'llama'"),
        (put("tokenizer.ggml.pre", "llama-bpe", STRING), UnsupportedModelError, "split 'llama-bpe'"),
        (put("qwen2.rope.scaling.type", "linear", STRING), IncompleteCheckpointError, r"lacks qwen2\.rope\.scal"),
        (rename_tensor("blk.0.attn_q.weight", "blk.0.attn_qkv.weight"), UnsupportedModelError, "do not have"),
        (rename_tensor("blk.0.attn_q.weight", "rope_freqs.weight"), UnsupportedModelError, "'rope_freqs.weight'"),
        (rename_tensor("blk.0.attn_q.weight", "blk.7.attn_q.weight"), IncompleteCheckpointError, "lacks 1 tensors"),
        (rename_tensor("token_embd.weight", "output.weight"), IncompleteCheckpointError, "lacks its embedding"),
        (put("qwen2.block_count", 3, U32), IncompleteCheckpointError, "lacks 12 tensors"),
        (put("qwen2.block_count", (1 << 32) - 1, U32), IncompleteCheckpointError, "num_hidden_layers"),
        (put("qwen2.block_count", "2", STRING), IncompleteCheckpointError, "block_count is not a whole number"),
        (put("qwen2.attention.head_count", 0, U32), IncompleteCheckpointError, "num_attention_heads"),
        (put("qwen2.attention.head_count", 3, U32), IncompleteCheckpointError, "heads"),
        (put("qwen2.attention.layer_norm_rms_epsilon", np.nan, F32), IncompleteCheckpointError, "not a finite number"),
        (put("qwen2.context_length", 0, U32), IncompleteCheckpointError, "max_position_embeddings"),
        (drop("qwen2.embedding_length"), IncompleteCheckpointError, r"lacks qwen2\.embedding_length"),
        (drop("tokenizer.ggml.tokens"), IncompleteCheckpointError, r"lacks tokenizer\.ggml\.tokens"),
        (drop("tokenizer.chat_template"), IncompleteCheckpointError, "lacks a chat template"),
        (put("tokenizer.ggml.eos_token_id", 1 << 30, U32), IncompleteCheckpointError, "one of its tokens|eos_token_id"),
        (put("general.sampling.top_p", 7.0, F32), IncompleteCheckpointError, "top_p"),
        (put("tokenizer.ggml.merges", "a b", STRING), IncompleteCheckpointError, "merges is not a list"),
    ],
)
def test_what_contradicts_itself_is_refused_before_weights_load(
    tiny_checkpoint: Path, tmp_path: Path, change: Callable[[gguf.GGUFWriter], None], error: type[Exception], words: str
) -> None:
    file = changed(tiny_checkpoint, tmp_path / "changed.gguf", change)
    with pytest.raises(error, match=words):
        resolve(str(file))
    assert not list((tmp_path / "cache" / "gguf").glob("*/config.json"))


def test_shapes_that_contradict_the_metadata_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = changed(tiny_checkpoint, tmp_path / "f.gguf", put("qwen2.feed_forward_length", 64, U32))
    with pytest.raises(IncompleteCheckpointError, match=r"by config\.json"):
        ChatQwen(model=str(file)).invoke("hello")


def test_what_is_said_of_sampling_and_positions_is_taken_over(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def change(writer: gguf.GGUFWriter) -> None:
        put("general.sampling.temp", 0.25, F32)(writer)
        put("general.sampling.top_k", 7, gguf.GGUFValueType.INT32)(writer)
        put("qwen2.rope.scaling.type", "yarn", STRING)(writer)
        put("qwen2.rope.scaling.factor", 4.0, F32)(writer)
        put("qwen2.rope.scaling.original_context_length", 128, U32)(writer)

    checkpoint = resolve(str(changed(tiny_checkpoint, tmp_path / "f.gguf", change)))
    assert checkpoint.generation.items() >= {"temperature": 0.25, "top_k": 7, "top_p": 0.8}.items()
    assert checkpoint.context_window == 512
    assert json.loads((checkpoint.path / "config.json").read_text()) == checkpoint.config


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("q4_k_m", ["m-q4_k_m.gguf"]),
        ("Q4_K_M", ["m-q4_k_m.gguf"]),
        ("m-q4_k_m.gguf", ["m-q4_k_m.gguf"]),
        ("q8_0", ["m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf"]),
        ("k_m", []),
        ("q2_k", []),
        ("", []),
    ],
)
def test_the_file_of_a_repository(wanted: str, chosen: list[str]) -> None:
    files = ["m-q4_k_m.gguf", "m-q5_k_m.gguf", "m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf"]
    assert choose_gguf(files, wanted) == chosen


def test_a_repository_of_the_hub(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In huggingface_hub's cache, laid out as it does: found without a network."""
    repository = tmp_path / "hub" / "models--a--b-GGUF"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    write_gguf(tiny_checkpoint, snapshot / "b-q8_0.gguf", quantization=Type.Q8_0)
    checkpoint = resolve("a/b-GGUF:q8_0", cache_dir=tmp_path / "hub", local_files_only=True)
    assert (checkpoint.name, checkpoint.revision) == ("a/b-GGUF:q8_0", "0" * 40)
    with pytest.raises(ModelNotFoundError, match="langchain-qwen pull a/b-GGUF:q4_0"):
        resolve("a/b-GGUF:q4_0", cache_dir=tmp_path / "hub", local_files_only=True)
    # The hub's client reads its variable once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pull("a/b-GGUF:q8_0", cache_dir=tmp_path / "hub") == snapshot / "b-q8_0.gguf"
