"""4-bit weights fitted to a text: what the matrices are given is watched, then each is rounded to serve that best."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from langchain_qwen.bars import Bar
from langchain_qwen.checkpoints import Checkpoint, cache_root
from langchain_qwen.checkpoints.gguf_checkpoint import SPLIT, SUFFIX, open_gguf
from langchain_qwen.checkpoints.limits import head_dim
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.loading import native_weights
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.cores import usable_cores
from langchain_qwen.engine.runners.cpu.fitting import Products
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.errors import (
    CheckpointError,
    EngineError,
    InvalidParameterError,
    MissingDependencyError,
    UnsupportedModelError,
)

MOST_ROWS = 32  # of calibration: they take minutes
PIECE = 64  # tokens of a step: each takes as many numbers as all matrices together have columns
ONE_TOKEN = np.array([0])  # the only logit that is computed: nobody looks at them
GROUP = 32


def check_int4(source: Checkpoint, target: Path) -> None:
    """Raise for what `quantize_int4` would find wrong after much work.

    Raises:
        InvalidParameterError: The target exists, or cannot be such a file.
        UnsupportedModelError: The source is quantised already, or has sizes that such a file cannot hold.
        MissingDependencyError: The gguf package is not installed.
        CheckpointError: There is not enough disk.
        EngineError: The CPU engine was not built with this installation.
    """
    if target.suffix != SUFFIX or SPLIT.fullmatch(target.name):
        raise InvalidParameterError(f"{target} cannot be the result; name one whole file, such as my-model{SUFFIX}")
    if target.exists():
        raise InvalidParameterError(f"{target} exists already; name a file that does not")
    if not target.absolute().parent.is_dir():
        raise InvalidParameterError(f"there is no folder {target.absolute().parent} to put {target.name} in")
    if "quantization_config" in source.config or source.gguf:
        raise UnsupportedModelError(f"{source.name} is quantised already; quantise the release in bf16 or fp16")
    config = source.config
    attended = config["num_attention_heads"] * head_dim(config)
    for width in (config["hidden_size"], attended, config["intermediate_size"]):
        if width % GROUP:
            raise UnsupportedModelError(
                f"{source.name} has matrices of {width} columns, which do not divide into groups of {GROUP}"
            )
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError("writing a GGUF file needs gguf: pip install 'langchain-qwen[gguf]'")
    if not library.available():
        raise EngineError(
            "the CPU engine was not built with this installation (no C compiler was found), and fitting needs it: "
            "install a C compiler and reinstall langchain-qwen"
        )
    from langchain_qwen.quantizing.gguf_writing import check_metadata, file_bytes

    check_metadata(source)
    needed, free = file_bytes(source), shutil.disk_usage(target.absolute().parent).free
    if needed > free:
        raise CheckpointError(f"{target} takes {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB of disk are free there")


def quantize_int4(source: Checkpoint, target: Path, rows: Sequence[Sequence[int]]) -> Checkpoint:
    """Write a GGUF file with all matrices in 4 bits, fitted to the inputs that they have on a text; shows progress.

    Args:
        source: A checkpoint in floating point, in safetensors.
        target: A file that does not exist; it is there when everything is done, or not at all.
        rows: Token ids of the calibration text.

    Raises:
        InvalidParameterError, UnsupportedModelError, MissingDependencyError, CheckpointError, EngineError: See
            `check_int4`.
        OutOfMemoryError: The weights in bf16 do not fit.
    """
    check_int4(source, target)
    from langchain_qwen.quantizing.gguf_writing import write_int4

    products = watch(source, rows)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with ThreadPoolExecutor(usable_cores()) as pool:
            write_int4(source, partial, products, pool)
        open_gguf(partial, str(target), cache_root())
        partial.replace(target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return open_gguf(target.absolute(), str(target), cache_root())


def watch(source: Checkpoint, rows: Sequence[Sequence[int]]) -> Mapping[str, Products]:
    """Let the model read rows of tokens in bf16, and count what its matrices are given, by their names."""
    weights, precision = native_weights(source, "bf16", cache_folder=cache_root())
    runner = CpuRunner(weights, precision=precision, num_threads=usable_cores(), max_step_tokens=PIECE)
    blocks = list(range(-(-max(map(len, rows)) // BLOCK_SIZE)))
    seen: dict[str, Products] = {}
    runner.allocate(len(blocks))
    try:
        with Bar("Reading the text", sum(map(len, rows)), unit="tokens") as bar:
            for row in rows:
                for start in range(0, len(row), PIECE):
                    piece = list(row[start : start + PIECE])
                    held = blocks[: -(-(start + len(piece)) // BLOCK_SIZE)]
                    inputs = runner.step_inputs([Chunk(piece, start, held, len(piece), ONE_TOKEN)])
                    for name, given in inputs.items():
                        if name not in seen:
                            seen[name] = Products(given.shape[1])
                        # First tokens too: attention rests on them, through inputs a hundred times as large in a few
                        # columns (massive activations, Sun et al. 2024). Without them those columns would look unused,
                        # and rounding them coarsely costs later tokens more than the fit gains.
                        seen[name].add(given)
                    bar.advance(len(piece))
    finally:
        runner.close()
    return seen
