"""Prompt speed on the CPU beside llama.cpp: tokens a second at several lengths, in turns, medians over the rounds.

python -m benchmarks.prefill --model coder-1.5b
"""

from __future__ import annotations

from statistics import median

from benchmarks.common import argument_parser, print_environment, print_result
from benchmarks.cpu_engine import CpuEngine, text_ids
from benchmarks.llama_cpp import LlamaCpp, gguf_files
from langchain_qwen.checkpoints import resolve
from langchain_qwen.engine.runners.cpu.cores import usable_cores


def main() -> None:
    """Run everything and print the table and the result."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--lengths", type=int, nargs="*", default=[256, 1024, 4096], help="tokens of the prompts")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each length")
    options = parser.parse_args()
    print_environment("llama-cpp-python")
    threads, checkpoint = usable_cores(), resolve(options.model)
    longest = max(options.lengths)
    ids = text_ids(checkpoint, options.data, sum(options.lengths) * options.rounds)
    ours = CpuEngine(checkpoint, "int4", threads=threads, tokens=longest + 128)
    peers = {
        name: LlamaCpp(path, context=longest + 128, threads=threads) for name, path in gguf_files(options.model).items()
    }
    table: dict[int, dict[str, float]] = {}
    ratios: dict[int, float] = {}
    for length in options.lengths:
        rounds = []
        for _ in range(options.rounds):
            prompt, ids = ids[:length], ids[length:]
            figures = {"int4": length / ours.prefill(prompt)}
            figures |= {name: length / peer.prefill(prompt) for name, peer in peers.items()}
            rounds.append(figures)
            print(f"{length}: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()), flush=True)
        table[length] = {name: round(median(r[name] for r in rounds), 1) for name in rounds[0]}
        ratios[length] = round(median(r["int4"] / max(r[name] for name in peers) for r in rounds), 3)
    ours.close()
    print_result(
        {
            "benchmark": "prefill",
            "vs_llama_cpp": min(ratios.values()),
            "vs_llama_cpp_at": {str(length): ratio for length, ratio in ratios.items()},
            "tokens_a_second": {str(length): row for length, row in table.items()},
            "threads": threads,
            "rounds": options.rounds,
            "model": options.model,
        },
        "llama-cpp-python",
    )


if __name__ == "__main__":
    main()
