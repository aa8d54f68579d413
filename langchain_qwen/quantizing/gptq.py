"""A GPTQ checkpoint from one in floating point, through GPTQModel."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_qwen.checkpoints.devices import choose_device, choose_precision, dtype_of
from langchain_qwen.checkpoints.folder import Checkpoint, open_folder
from langchain_qwen.errors import InvalidParameterError, MissingDependencyError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

BITS = (4, 8)
GROUP_SIZES = (32, 64, 128, -1)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)


def check_quantization(source: Checkpoint, target: Path, *, bits: int, group_size: int) -> None:
    """Raise for what `quantize` would find wrong after much work.

    Raises:
        InvalidParameterError: Bits or group size that do not exist, or a target that does.
        UnsupportedModelError: The source is quantised already, or its columns do not divide into such groups.
        MissingDependencyError: GPTQModel is not installed.
    """
    if bits not in BITS:
        raise InvalidParameterError(f"bits={bits} is not known; choose 4 or 8")
    if group_size not in GROUP_SIZES:
        raise InvalidParameterError(f"group_size={group_size} is not known; choose 32, 64, 128, or -1 for whole rows")
    if target.exists():
        raise InvalidParameterError(f"{target} exists already; name a folder that does not")
    if "quantization_config" in source.config:
        raise UnsupportedModelError(f"{source.name} is quantised already; quantise the release in bf16 or fp16")
    widths = (source.config["hidden_size"], source.config["intermediate_size"])
    if group_size > 0 and any(width % group_size for width in widths):
        raise UnsupportedModelError(
            f"{source.name} has matrices of {widths[0]} and {widths[1]} columns, which do not divide into groups of "
            f"{group_size}; take a smaller group size"
        )
    if importlib.util.find_spec("gptqmodel") is None:
        raise MissingDependencyError(
            "quantising with GPTQ needs gptqmodel. It is built against the torch that is installed, so: "
            "pip install setuptools wheel && pip install --no-build-isolation 'langchain-qwen[gptq]'"
        )


def quantize(
    source: Checkpoint,
    target: Path,
    rows: Sequence[Sequence[int]],
    *,
    bits: int,
    group_size: int,
    act_order: bool,
    device: str,
) -> Checkpoint:
    """Write a GPTQ checkpoint; GPTQModel shows its progress on stderr.

    Args:
        source: A checkpoint in floating point.
        target: A folder that does not exist; it is there when everything is done, or not at all.
        rows: Token ids of the calibration text.
        bits: 4 or 8.
        group_size: Columns that share a scale, or -1 for whole rows.
        act_order: Quantise the columns with the largest activations first, and group them in that order.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        InvalidParameterError, UnsupportedModelError, MissingDependencyError: See `check_quantization`.
    """
    check_quantization(source, target, bits=bits, group_size=group_size)
    device = choose_device(device)
    if (os.cpu_count() or 1) < 3:  # its own default for so few cores is one worker, with which it does not start
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    work = target.with_name(f".{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    calibration = [{"input_ids": list(row), "attention_mask": [1] * len(row)} for row in rows]
    try:
        with redirect_stdout(sys.stderr):
            from gptqmodel import GPTQModel, QuantizeConfig

            config = QuantizeConfig(
                bits=bits,
                group_size=group_size,
                sym=True,
                desc_act=act_order,
                act_group_aware=not act_order and group_size > 0,
                format="gptq",
                device=device,
            )
            model = GPTQModel.load(str(source.path), config, dtype=_compute_dtype(device))
            model.quantize(calibration, batch_size=1)
            model.save(str(work))
        _keep_what_is_not_quantised(source, work)
        open_folder(work)
        work.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return open_folder(target)


def _keep_what_is_not_quantised(source: Checkpoint, work: Path) -> None:
    """Put the source's own files and tensors where the library wrote them anew.

    It writes embeddings in the type it computes in, biases rounded to fp16, and the tokenizer and the config as its
    version of transformers would have them.
    """
    for name in TOKENIZER_FILES:
        if (source.path / name).exists():
            shutil.copyfile(source.path / name, work / name)
    from safetensors.torch import load_file, save_file  # imports torch, which checking does without

    config = json.loads((work / "config.json").read_text(encoding="utf-8"))
    own = {**source.config, "quantization_config": config["quantization_config"]}
    (work / "config.json").write_text(json.dumps(own, indent=2), encoding="utf-8")
    originals: dict[str, torch.Tensor] = {}
    for file in source.weight_files:
        originals.update(load_file(file))
    for file in work.glob("*.safetensors"):
        tensors = load_file(file)
        kept = {name: originals[name] for name in tensors if name in originals}
        written = file.with_suffix(".new")  # not over the file that the tensors may be mapped from
        save_file({**tensors, **kept}, written, metadata={"format": "pt"})
        written.replace(file)


def _compute_dtype(device: str) -> torch.dtype:
    return dtype_of(choose_precision("auto", device))
