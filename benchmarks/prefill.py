"""Prompt speed on the CPU beside llama.cpp and OpenVINO: tokens a second by length, in turns, medians over the rounds.

python -m benchmarks.prefill --model coder-1.5b --openvino PYTHON
"""

from __future__ import annotations

from statistics import median

from benchmarks.common import argument_parser, print_environment, print_result
from benchmarks.cpu_engine import CpuEngine, text_ids
from benchmarks.llama_cpp import LlamaCpp, gguf_files
from benchmarks.openvino import NAME, add_option, openvino
from langchain_qwen.checkpoints import resolve
from langchain_qwen.engine.runners.cpu.cores import usable_cores


def main() -> None:
    """Run everything and print the table and the result."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--lengths", type=int, nargs="*", default=[256, 1024, 4096], help="tokens of the prompts")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each length")
    add_option(parser)
    options = parser.parse_args()
    print_environment("llama-cpp-python")
    threads, checkpoint = usable_cores(), resolve(options.model)
    longest = max(options.lengths)
    ids = text_ids(checkpoint, options.data, sum(options.lengths) * options.rounds)
    ours = CpuEngine(checkpoint, "int4", threads=threads, tokens=longest + 128)
    peers = {
        name: LlamaCpp(path, context=longest + 128, threads=threads) for name, path in gguf_files(options.model).items()
    }
    rival = openvino(options.openvino, checkpoint, threads=threads)
    table: dict[int, dict[str, float]] = {}
    ratios: dict[str, dict[str, float]] = {"vs_llama_cpp": {}, "vs_openvino": {}}
    for length in options.lengths:
        rounds = []
        for _ in range(options.rounds):
            prompt, ids = ids[:length], ids[length:]
            figures = {"int4": length / ours.prefill(prompt)}
            figures |= {name: length / peer.prefill(prompt) for name, peer in peers.items()}
            if rival:
                figures[NAME] = length / rival.prefill(prompt)
            rounds.append(figures)
            print(f"{length}: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()), flush=True)
        table[length] = {name: round(median(r[name] for r in rounds), 1) for name in rounds[0]}
        over = {"vs_llama_cpp": [*peers], "vs_openvino": [NAME] if rival else []}
        for ratio, names in over.items():
            if names:
                value = median(r["int4"] / max(r[name] for name in names) for r in rounds)
                ratios[ratio][str(length)] = round(value, 3)
    ours.close()
    if rival:
        rival.close()
    print_result(
        {
            "benchmark": "prefill",
            **{name: min(at.values(), default=None) for name, at in ratios.items()},
            **{f"{name}_at": at for name, at in ratios.items()},
            "tokens_a_second": {str(length): row for length, row in table.items()},
            "threads": threads,
            "rounds": options.rounds,
            "model": options.model,
            "openvino-genai": rival.version if rival else None,
        },
        "llama-cpp-python",
    )


if __name__ == "__main__":
    main()
