from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from langchain_qwen.checkpoints import Checkpoint, choose_device, choose_precision, open_folder
from langchain_qwen.engine.runners.torch.load import load_model
from langchain_qwen.errors import (
    IncompleteCheckpointError,
    InvalidParameterError,
    MissingDependencyError,
    OutOfMemoryError,
    PrecisionError,
    UnsupportedModelError,
)


@pytest.fixture
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return open_folder(tiny_checkpoint, "tiny")


def load(checkpoint: Checkpoint, precision: str = "auto", device: str = "cpu") -> tuple[Any, str]:
    return load_model(checkpoint, precision=precision, device=device, attn_implementation="sdpa")


def quantized(tiny_checkpoint: Path, folder: Path, **config: Any) -> Checkpoint:
    shutil.copytree(tiny_checkpoint, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"quantization_config": config}))
    return open_folder(folder, "quantised")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precision_is_what_was_asked(checkpoint: Checkpoint, precision: str, dtype: torch.dtype) -> None:
    model, held = load(checkpoint, precision)
    assert held == precision
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    assert model.config._attn_implementation == "sdpa"


def test_weights_are_those_of_the_files(checkpoint: Checkpoint) -> None:
    model, _ = load(checkpoint, "bf16")
    stored = load_file(checkpoint.path / "model.safetensors")
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items())
    assert state["lm_head.weight"].data_ptr() == state["model.embed_tokens.weight"].data_ptr()


@pytest.mark.parametrize("bf16_instructions", [True, False])
def test_auto_on_a_cpu(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, bf16_instructions: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16_instructions}, raising=False)
    expected = "bf16" if bf16_instructions else "fp32"
    assert choose_precision("auto", "cpu") == expected
    assert load(checkpoint)[1] == expected


def test_auto_with_a_torch_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", "cpu") == "fp32"


def test_auto_on_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert choose_precision("auto", "cuda:1") == "fp16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_precision("auto", "cuda") == "bf16"
    assert choose_precision("auto", "mps") == "fp16"
    assert choose_precision("int4", "cuda") == "int4"


def set_accelerators(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_device(monkeypatch: pytest.MonkeyPatch) -> None:
    set_accelerators(monkeypatch)
    assert choose_device("auto") == "cpu"
    set_accelerators(monkeypatch, mps=True)
    assert choose_device("auto") == "mps"
    set_accelerators(monkeypatch, cuda=2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "xpu", "CPU"])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(InvalidParameterError, match="auto, cpu, cuda, cuda:N and mps"):
        choose_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_devices_that_are_not_there(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    set_accelerators(monkeypatch)
    with pytest.raises(InvalidParameterError, match=r"sees 0 (cuda|mps) device"):
        load(checkpoint, device=device)


def test_unknown_precision(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidParameterError, match="auto, fp32, bf16, fp16, int8, int4"):
        load(checkpoint, "float32")


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules look as if they were not installed, and all others as if they were."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in modules else SimpleNamespace())


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integers_need_bitsandbytes(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    without(monkeypatch, "bitsandbytes")
    with pytest.raises(MissingDependencyError, match=r"needs bitsandbytes: pip install 'langchain-qwen\[bnb\]'"):
        load(checkpoint, precision)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integers_through_bitsandbytes(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    asked: dict[str, Any] = {}

    def from_pretrained(path: Path, **settings: Any) -> Any:
        asked.update(settings)
        raise ImportError("needs a newer bitsandbytes")

    without(monkeypatch)
    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(PrecisionError, match=f"cannot be held as {precision} here: needs a newer bitsandbytes"):
        load(checkpoint, precision)
    config = asked["quantization_config"]
    assert (config.load_in_8bit, config.load_in_4bit) == (precision == "int8", precision == "int4")
    if precision == "int4":
        assert config.bnb_4bit_quant_type == "nf4"
    assert asked["device_map"] == {"": "cpu"}
    assert asked["use_safetensors"]
    assert asked["local_files_only"]


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_quantised_checkpoints_need_their_extra(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    checkpoint = quantized(tiny_checkpoint, tmp_path / "q", quant_method=method, bits=4, group_size=128)
    without(monkeypatch, "gptqmodel", "optimum")
    with pytest.raises(MissingDependencyError, match=r"gptqmodel and optimum: pip install 'langchain-qwen\[gptq\]'"):
        load(checkpoint)
    with pytest.raises(MissingDependencyError):
        load(checkpoint, "int4")
    with pytest.raises(PrecisionError, match=rf"4-bit {method.upper()} weights, which cannot become bf16"):
        load(checkpoint, "bf16")


def test_other_quantisation_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = quantized(tiny_checkpoint, tmp_path / "q", quant_method="fp8")
    with pytest.raises(UnsupportedModelError, match=r"'fp8'; known are gptq, awq"):
        load(checkpoint)


def test_what_does_not_fit_is_refused_before_loading(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_free(size: int) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))

    def from_pretrained(*_: Any, **__: Any) -> None:
        raise AssertionError("loaded although there is no room")

    monkeypatch.setattr(Checkpoint, "parameters", 1_543_714_304)
    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "from_pretrained", from_pretrained)
    set_free(4_000_000_000)
    with pytest.raises(
        OutOfMemoryError, match=r"fp32 needs 6.17 GB .* 4.00 GB is free.*bf16: 3.09 GB, int8: 1.54 GB, int4: 0.77 GB"
    ):
        load(checkpoint, "fp32")
    with pytest.raises(AssertionError, match="although"):
        load(checkpoint, "bf16")
    set_free(3_000_000_000)
    with pytest.raises(MemoryError, match=r"bf16 needs 3.09 GB .* \(int8: 1.54 GB, int4: 0.77 GB\)"):
        load(checkpoint, "bf16")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    ],
)
def test_running_out_of_memory_while_loading(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def from_pretrained(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(OutOfMemoryError, match=r"tiny in fp32 needs .* GB, more than cpu has free\. Close") as caught:
        load(checkpoint, "fp32")
    assert caught.value.__cause__ is error


def test_other_errors_are_left_alone(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def from_pretrained(*_: Any, **__: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(RuntimeError, match="something else"):
        load(checkpoint, "fp32")


def test_weights_of_another_shape_are_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(5, 64, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IncompleteCheckpointError, match=r"lacks 1 .*\(model.layers.1.mlp.up_proj.weight\)"):
        load(open_folder(folder))


@pytest.mark.parametrize(
    "setting",
    [
        {"dtype": "float7"},
        pytest.param(
            {"initializer_range": "small"},
            marks=pytest.mark.skipif(transformers.__version__.startswith("5.0."), reason="transformers 5.0 takes it"),
        ),
    ],
)
def test_what_only_transformers_refuses(tiny_checkpoint: Path, tmp_path: Path, setting: dict[str, Any]) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | setting))
    with pytest.raises(IncompleteCheckpointError, match=r"transformers cannot read the config\.json"):
        load(open_folder(folder, "x"), "fp32")


def test_code_of_the_folder_never_runs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_evil.py").write_text("raise SystemExit('this must not run')")
    model, _ = load(open_folder(folder))
    assert type(model) is transformers.Qwen2ForCausalLM


def test_no_bar_where_nobody_watches(checkpoint: Checkpoint, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    load(checkpoint)
    assert "%" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled() == shown


def test_no_bar_in_a_terminal_either_where_transformers_is_to_be_quiet(
    checkpoint: Checkpoint, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line asks for that, since it shows a spinner of its own."""
    from transformers.utils import logging

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    load(checkpoint)
    assert "%" in capfd.readouterr().err
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        load(checkpoint)
    finally:
        logging.set_verbosity(verbosity)
    assert "%" not in capfd.readouterr().err
