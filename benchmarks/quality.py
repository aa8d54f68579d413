"""What quantising costs: predictions beside those of the bf16 weights, and scores of answers.

Error: what our 4 bits lose beside llama.cpp's Q4_K of the same weights; see `benchmarks.q4_k`.

Divergence: every side predicts the same pieces of text, kind by kind; reported are the mean Kullback-Leibler divergence
from the bf16 weights, in nats, the perplexity, and how often the most likely token is the same. The first sides are
the engine as it runs. Those that say "alone" are multiplied in bf16, so that only the rounding of weights counts; Q4_K
is made by llama.cpp's own code, Q4_0 by the gguf package, nf4 by bitsandbytes. The reference of an alias is its Q4_K_M
file, dequantised: whatever finds its grid again looks better than it is, as the side "int4" does in part. So "alone"
rounds the matrices which the file holds in Q6_K, and no others.

Scores: GSM8K, HumanEval and tool calls, answered greedily by bf16 and int4.

    python -m benchmarks.quality --model coder-1.5b --ggml libggml-base.so
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks import q4_k, scoring
from benchmarks.common import Row, argument_parser, print_environment, print_result, read_rows, run_all, share
from benchmarks.contract import call_tools
from benchmarks.cpu_engine import cpu_weights, text_tokenizer
from benchmarks.rounding import Rounding, has_super_blocks, rounded_weights, roundings
from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import RELEASES, Checkpoint, cache_root, open_folder, resolve
from langchain_qwen.checkpoints.pulling import in_safetensors
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.loading import load_runner
from langchain_qwen.engine.local import MAX_STEP_TOKENS
from langchain_qwen.engine.runners.cpu.cores import usable_cores
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.protocol import Chunk, Runner
from langchain_qwen.quantizing import BUILT_IN, calibration_texts, split_rows
from langchain_qwen.quantizing.int4 import watch
from langchain_qwen.quantizing.quality import Agreement, Quality

PARTS = ("error", "divergence", "scores")
DEFAULT = "int4"
ROWS_AT_ONCE = 4096


def main() -> None:
    """Run both parts and print their results."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--pieces", type=int, default=8, help="pieces of text of each kind")
    parser.add_argument("--piece-tokens", type=int, default=64, help="tokens of a piece")
    parser.add_argument("--rows", type=int, default=30, help="rows of each set of tasks; 0 leaves them out")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="what to measure")
    parser.add_argument("--ggml", type=Path, help="llama.cpp's libggml-base; else that of llama-cpp-python")
    parser.add_argument("--every", type=int, default=1, help="compare only every so many of the matrices")
    parser.add_argument("--gptq", action="append", default=[], help="folder of the same model quantised with GPTQ")
    options = parser.parse_args()
    print_environment("gguf", "bitsandbytes")
    named = resolve(options.model)
    errors: dict[str, dict[str, float]] = {}
    if "error" in options.parts and named.gguf:
        held_out = [ids for _, ids in text_pieces(named, options)]
        errors = q4_k.measure_error(named, q4_k.library(options), held_out, options.every)
    divergence: dict[str, dict[str, Quality]] = {}
    if "divergence" in options.parts:
        measured = measure_divergence(named, options)
        divergence = {side: {kind: of.quality for kind, of in kinds.items()} for side, kinds in measured.items()}
        print_table(divergence)
    scores = measure_scores(options) if "scores" in options.parts and options.rows else {}
    drops = [of["bf16"] - of["int4"] for of in scores.values()]
    print_result(
        {
            "benchmark": "quality",
            **(q4_k.summary(errors) if errors else {}),
            **{f"kl_{side.lower().replace(' ', '_')}": kinds["all"].kl for side, kinds in divergence.items()},
            "reference": "its Q4_K_M file, dequantised to bf16" if named.name in RELEASES else "its own bf16 weights",
            "score_drop_max": round(100 * max(drops), 2) if drops else None,
            "divergence": {
                side: {
                    kind: {name: round(value, 5) for name, value in asdict(quality).items()}
                    for kind, quality in kinds.items()
                }
                for side, kinds in divergence.items()
            },
            "scores": scores,
            "errors_vs_q4_k": errors,
            "pieces": options.pieces,
            "piece_tokens": options.piece_tokens,
            "rows": options.rows,
            "model": options.model,
        },
        "gguf",
        "bitsandbytes",
    )


def measure_divergence(named: Checkpoint, options: argparse.Namespace) -> dict[str, dict[str, Agreement]]:
    """How each side agrees with bf16 on each kind of text, and on all of it."""
    pieces = text_pieces(named, options)
    result: dict[str, dict[str, Agreement]] = {}
    with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
        reference = predictions(cpu_runner(in_safetensors(named, "bf16"), "bf16"), pieces)
        for side, runner in sides(named, Path(folder), options):
            kinds: dict[str, Agreement] = {"all": Agreement()}
            for (kind, ids), before, after in zip(pieces, reference, predictions(runner, pieces), strict=True):
                for name in (kind, "all"):  # what follows a first token nobody asks for, and all sides differ there
                    kinds.setdefault(name, Agreement()).add(before[1:], after[1:], ids[2:])
            result[side] = kinds
            print(side + ": " + ", ".join(f"{kind} {of.quality.kl:.4f}" for kind, of in kinds.items()), flush=True)
    return result


def print_table(divergence: dict[str, dict[str, Quality]]) -> None:
    """A line for each side."""
    table = Table("weights", *(f"KL {kind}" for kind in divergence[DEFAULT]), "perplexity", "same top")
    for side, kinds in divergence.items():
        whole = kinds["all"]
        columns = [f"{of.kl:.4f}" for of in kinds.values()]
        table.add_row(side, *columns, f"{whole.perplexity_after:.2f}", f"{whole.same_top:.3f}")
    Console().print(table)


def sides(named: Checkpoint, folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Runner]]:
    """What is compared, one loaded after the other."""
    checkpoint = in_safetensors(named, "bf16")
    if named.gguf:
        yield "as it is", load_runner(named, precision="auto", device="cpu")
    yield "int8", cpu_runner(checkpoint, "int8")
    yield DEFAULT, cpu_runner(checkpoint, "int4")
    weights = rounded_weights(named, checkpoint)
    seen = watch(checkpoint, calibration_rows(checkpoint))
    ggml = q4_k.library(options) if has_super_blocks(checkpoint) else None
    with ThreadPoolExecutor(usable_cores()) as pool:
        for side, rounding in roundings(ggml, seen, weights, pool).items():
            yield f"{side} alone", cpu_runner(rounded_copy(checkpoint, folder / "copy", rounding, weights), "bf16")
            shutil.rmtree(folder / "copy")
    for path in options.gptq:
        yield f"GPTQ {Path(path).name}", load_runner(open_folder(Path(path), path), precision="auto", device="cpu")


def cpu_runner(checkpoint: Checkpoint, precision: str) -> CpuRunner:
    """The CPU engine in a precision."""
    weights = cpu_weights(checkpoint, precision)
    return CpuRunner(weights, precision=precision, num_threads=usable_cores(), max_step_tokens=MAX_STEP_TOKENS)


def calibration_rows(checkpoint: Checkpoint) -> list[list[int]]:
    """The mix that `langchain-qwen quantize --method int4` reads by default."""
    texts = list(calibration_texts(BUILT_IN.read_text(encoding="utf-8"), BUILT_IN))
    return split_rows(texts, text_tokenizer(checkpoint), BUILT_IN)[0]


def rounded_copy(checkpoint: Checkpoint, folder: Path, rounding: Rounding, names: Container[str]) -> Checkpoint:
    """A copy of a checkpoint with some matrices rounded and widened again."""
    folder.mkdir()
    for file in checkpoint.path.iterdir():
        if file.suffix == ".json":
            shutil.copy(file, folder)
    for path in checkpoint.weight_files:
        tensors = {}
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  not a dict
                tensors[name] = tensor = file.get_tensor(name)
                if name in names:
                    parts = [rounding(name, rows.float().numpy()) for rows in torch.split(tensor, ROWS_AT_ONCE)]
                    tensors[name] = torch.cat([torch.from_numpy(part).to(torch.bfloat16) for part in parts])
        save_file(tensors, folder / path.name, metadata={"format": "pt"})
    return Checkpoint(checkpoint.name, folder, None, checkpoint.config, checkpoint.generation)


def text_pieces(checkpoint: Checkpoint, options: argparse.Namespace) -> list[tuple[str, list[int]]]:
    """Pieces of running text, as many of each kind, from different texts as far as there are."""
    tokenizer = text_tokenizer(checkpoint)
    rows = read_rows(options.data / "text_corpus.jsonl")
    pieces = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        texts = [row["text"] for row in rows if row["kind"] == kind]
        for index in range(options.pieces):
            ids = tokenizer.encode(texts[index * len(texts) // options.pieces])[: options.piece_tokens]
            pieces.append((kind, ids))
    return pieces


def predictions(runner: Runner, pieces: list[tuple[str, list[int]]]) -> list[NDArray[np.float32]]:
    """The logits at every token of every piece, each piece by itself."""
    blocks = list(range(-(-max(len(ids) for _, ids in pieces) // BLOCK_SIZE)))
    runner.allocate(len(blocks))
    try:
        return [runner.step([Chunk(ids, 0, blocks, len(ids))]).copy() for _, ids in pieces]
    finally:
        runner.close()


def measure_scores(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The share of right answers of bf16 and of int4 in each set."""
    scores: dict[str, dict[str, float]] = {"gsm8k": {}, "humaneval": {}, "tool_calling": {}}
    for precision in ("bf16", "int4"):
        with ChatQwen(model=options.model, precision=precision, temperature=0, max_tokens=400) as model:
            for name, of in scores.items():
                rows = read_rows(options.data / f"{name}.jsonl", options.rows)
                right = run_all(f"{precision} {name}", partial(answer, model=model, task=name), rows, at_once=8)
                of[precision] = share(right) or 0.0
                print(f"{precision} {name}: {of[precision]:.3f} of {len(rows)}", flush=True)
    return scores


def answer(row: Row, model: ChatQwen, task: str) -> bool:
    """Whether the model answers a row rightly."""
    if task == "tool_calling":
        return call_tools(row, model, forced=False).right
    prompt: Any = {"gsm8k": scoring.gsm8k_prompt, "humaneval": scoring.humaneval_prompt}[task]
    right: Any = {"gsm8k": scoring.gsm8k_right, "humaneval": scoring.humaneval_right}[task]
    return bool(right(row, model.invoke(prompt(row)).text))


if __name__ == "__main__":
    main()
