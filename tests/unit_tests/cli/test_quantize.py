"""`langchain-qwen quantize`, with GPTQModel replaced by a writer of the same format, and int4 as it is."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from langchain_qwen.checkpoints import open_folder, resolve
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.prompting import Tokenizer
from langchain_qwen.quantizing import BUILT_IN, calibration_texts, split_rows
from langchain_qwen.quantizing import int4 as int4_module
from langchain_qwen.quantizing.calibration import MOST_ROWS
from tests.quantised import Variant, write_quantised

TEXT = "The quick brown fox jumps over the lazy dog, again and again. " * 40


@pytest.fixture
def gptqmodel(monkeypatch):
    """What was asked of the library; it writes a checkpoint of random weights in groups of 32."""
    asked: dict[str, Any] = {}

    class GPTQModel:
        @classmethod
        def load(cls, folder: str, config: Any, dtype: torch.dtype) -> GPTQModel:
            asked.update(folder=folder, config=config, dtype=dtype)
            return cls()

        def quantize(self, rows: list[dict[str, list[int]]], batch_size: int) -> None:
            sys.stdout.write("layer 1 of 2\n")
            asked.update(rows=rows)
            if error := asked.get("error"):
                raise error

        def save(self, folder: str) -> None:
            write_quantised(Path(asked["folder"]), Path(folder), Variant(group_size=asked["config"].group_size))
            (Path(folder) / "tokenizer_config.json").write_text("{}")  # as another version of transformers would
            weights = load_file(Path(folder) / "model.safetensors")
            weights = {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in weights.items()}
            save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})

    module = ModuleType("gptqmodel")
    module.GPTQModel = GPTQModel
    module.QuantizeConfig = lambda **settings: SimpleNamespace(**settings)
    monkeypatch.setitem(sys.modules, "gptqmodel", module)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: module if name == "gptqmodel" else find_spec(name, *a)
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "9")
    monkeypatch.delenv("GPTQMODEL_CPU_WORKERS")
    return asked


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "calibration.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def quantize(run, tiny_checkpoint, tmp_path, calibration, monkeypatch):
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "cache"))
    return lambda *options: run(
        "quantize", tiny_checkpoint, tmp_path / "target", "--calibration", calibration, "--group-size", "32", *options
    )


def test_a_checkpoint_and_a_report(quantize, gptqmodel, tiny_checkpoint, tmp_path):
    result = quantize("--bits", "4")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'target'}\n"
    config = gptqmodel["config"]
    assert (config.bits, config.group_size, config.desc_act, config.sym, config.device) == (4, 32, False, True, "cpu")
    assert "layer 1 of 2" in result.stderr
    assert "perplexity" in result.stderr
    assert "KL divergence" in result.stderr
    made = open_folder(tmp_path / "target")
    assert made.config["quantization_config"]["bits"] == 4
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (made.path / name).read_bytes() == (tiny_checkpoint / name).read_bytes()
    weights = load_file(made.path / "model.safetensors")
    for name, original in load_file(tiny_checkpoint / "model.safetensors").items():
        if name in weights:  # was not quantised
            assert weights[name].dtype == original.dtype
            assert torch.equal(weights[name], original)
    assert os.environ["GPTQMODEL_CPU_WORKERS"] == "2"
    held_out = sum(map(len, split_rows([TEXT], tokenizer(tiny_checkpoint), Path("x"))[1]))
    assert f"{held_out} held out" in result.stderr


def test_act_order_is_passed_on(quantize, gptqmodel):
    assert quantize("--act-order").exit_code == 0
    assert gptqmodel["config"].desc_act
    assert not gptqmodel["config"].act_group_aware


def test_nothing_is_left_of_a_failure(quantize, gptqmodel, tmp_path):
    gptqmodel["error"] = InvalidParameterError("the library is unhappy")
    result = quantize()
    assert result.exit_code == 1
    assert "the library is unhappy" in result.stderr
    assert not [path for path in tmp_path.iterdir() if "target" in path.name]


def test_without_the_library(quantize, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gptqmodel" else find_spec(name, *a)
    )
    result = quantize()
    assert result.exit_code == 1
    assert "pip install --no-build-isolation 'langchain-qwen[gptq]'" in result.stderr


def test_whole_rows_have_no_groups_to_be_aware_of(quantize, gptqmodel):
    assert quantize("--group-size", "-1").exit_code == 0
    assert (gptqmodel["config"].group_size, gptqmodel["config"].act_group_aware) == (-1, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "3"], "bits=3 is not known"),
        (["--group-size", "16"], "group_size=16 is not known"),
        (["--group-size", "128"], "do not divide into groups of 128"),
    ],
)
def test_settings_are_checked_first(quantize, gptqmodel, options, message):
    result = quantize(*options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not gptqmodel


def test_folders_are_not_overwritten(quantize, gptqmodel, tmp_path):
    (tmp_path / "target").mkdir()
    assert "exists already" in quantize().stderr
    assert not gptqmodel


def test_quantised_models_are_not_quantised_again(run, gptqmodel, tiny_checkpoint, tmp_path, calibration):
    folder = write_quantised(tiny_checkpoint, tmp_path / "q", Variant())
    result = run("quantize", folder, tmp_path / "target", "--calibration", calibration)
    assert "is quantised already" in result.stderr


def test_unknown_methods(quantize):
    assert quantize("--method", "awq").exit_code == 2


def tokenizer(folder: Path) -> Tokenizer:
    checkpoint = open_folder(folder)
    return Tokenizer.from_folder(folder, checkpoint.vocab_size, checkpoint.eos_token_ids)


class TestCalibrationText:
    def test_text_files_are_one_text(self, calibration):
        assert list(calibration_texts(TEXT, calibration)) == [TEXT]

    def test_json_lines(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps({"text": "one", "id": 1}) + "\n\n" + json.dumps({"text": "zwei"}) + "\n")
        assert list(calibration_texts(path.read_text(), path)) == ["one", "zwei"]

    @pytest.mark.parametrize("line", ["not json", "[]", '{"content": "x"}', '{"text": 3}'])
    def test_lines_without_a_text(self, tmp_path, line):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"text": "fine"}\n' + line + "\n")
        with pytest.raises(InvalidParameterError, match=r"rows.jsonl, line 2: "):
            list(calibration_texts(path.read_text(), path))

    def test_no_file(self, run, tiny_checkpoint, tmp_path):
        result = run("quantize", tiny_checkpoint, tmp_path / "target", "--calibration", tmp_path / "none.txt")
        assert result.exit_code == 1
        assert "cannot be read" in result.stderr

    @pytest.mark.parametrize("times", [1, 4, 30, 500])
    def test_held_out_rows_are_never_calibrated_with(self, tiny_checkpoint, times):
        texts = [" ".join(str(1000 * i + j) for j in range(250)) for i in range(times)]  # no two rows are the same
        used, held_out = split_rows(texts, tokenizer(tiny_checkpoint), Path("x"))
        rows = []
        for ids in map(tokenizer(tiny_checkpoint).encode, texts):
            rows += [ids[start : start + 512] for start in range(0, len(ids), 512)]
        rows = [row for row in rows if len(row) >= 32]
        assert used
        assert held_out
        assert not {tuple(row) for row in used} & {tuple(row) for row in held_out}
        assert all(row in rows for row in used + held_out)
        assert len(used) <= MOST_ROWS
        if times <= 30:
            assert len(used) + len(held_out) == len(rows)

    def test_too_little_text(self, tiny_checkpoint):
        with pytest.raises(InvalidParameterError, match="at least 544 tokens"):
            split_rows(["too short"], tokenizer(tiny_checkpoint), Path("x"))


class TestInt4:
    @pytest.fixture
    def quantize(self, run, tiny_checkpoint, tmp_path, monkeypatch):
        monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "cache"))
        return lambda *options: run("quantize", tiny_checkpoint, tmp_path / "made.gguf", "--method", "int4", *options)

    def test_a_file_and_a_report(self, quantize, calibration, tmp_path):
        result = quantize("--calibration", calibration)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{tmp_path / 'made.gguf'}\n"
        assert "perplexity" in result.stderr
        assert f'ChatQwen(model="{tmp_path / "made.gguf"}")' in result.stderr
        assert resolve(str(tmp_path / "made.gguf")).gguf == (tmp_path / "made.gguf",)

    def test_a_mix_of_our_own(self, quantize, tiny_checkpoint, monkeypatch):
        read = {}
        monkeypatch.setattr(
            "langchain_qwen.quantizing.quantize_int4", lambda source, target, rows: read.update(rows=rows) or source
        )
        monkeypatch.setattr("langchain_qwen.cli.quantize._finish", lambda *_: None)
        assert quantize().exit_code == 0
        tokens = tokenizer(tiny_checkpoint)
        texts = list(calibration_texts(BUILT_IN.read_text(encoding="utf-8"), BUILT_IN))
        assert read["rows"] == split_rows(texts, tokens, BUILT_IN, int4_module.MOST_ROWS)[0]
        assert any("北" in text or "镇" in text for text in texts)
        assert any("def " in text for text in texts)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--bits", "4"], "--bits cannot be chosen for int4"),
            (["--group-size", "32", "--act-order"], "--group-size, --act-order cannot be chosen"),
        ],
    )
    def test_options_of_the_other_method(self, quantize, options, message):
        result = quantize(*options)
        assert result.exit_code == 1
        assert message in result.stderr

    def test_a_wrong_target_is_told_before_anything_is_read(self, run, tiny_checkpoint, tmp_path):
        result = run("quantize", tiny_checkpoint, tmp_path / "folder", "--method", "int4")
        assert result.exit_code == 1
        assert "name one whole file" in result.stderr


def test_gptq_needs_a_text(run, tiny_checkpoint, tmp_path):
    result = run("quantize", tiny_checkpoint, tmp_path / "target")
    assert result.exit_code == 1
    assert "--calibration notes.txt" in result.stderr
