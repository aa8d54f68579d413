"""Decoding speed on the CPU: tokens a second by context and number of requests, beside llama.cpp and OpenVINO.

All sides run in turns, on the same tokens and threads; ratios are medians over the rounds.

    python -m benchmarks.decode --model coder-1.5b --openvino PYTHON
"""

from __future__ import annotations

from statistics import median

from benchmarks.common import argument_parser, print_environment, print_result
from benchmarks.cpu_engine import CpuEngine, read_bandwidth, text_ids
from benchmarks.llama_cpp import LlamaCpp, gguf_files
from benchmarks.openvino import NAME, add_option, openvino
from langchain_qwen.checkpoints import resolve
from langchain_qwen.engine.runners.cpu.cores import usable_cores

SHORT = 128  # the context of all ratios
REQUESTS = (1, 2, 4, 8)
MARGIN = 128  # room for answers


def main() -> None:
    """Run everything and print the tables and the result."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--contexts", type=int, nargs="*", default=[1024, 4096], help="besides 128")
    parser.add_argument("--long", type=int, default=16384, help="the context of long_context_share; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=7, help="rounds at context 128")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each answer")
    add_option(parser)
    options = parser.parse_args()
    print_environment("llama-cpp-python")
    threads, checkpoint = usable_cores(), resolve(options.model)
    longest = max([SHORT, *options.contexts, -(-options.long // max(REQUESTS))])
    ids = text_ids(checkpoint, options.data, longest * max(REQUESTS))
    capacity = (longest + MARGIN) * max(REQUESTS)
    int4 = CpuEngine(checkpoint, "int4", threads=threads, tokens=capacity)
    int8 = CpuEngine(checkpoint, "int8", threads=threads, tokens=2 * (SHORT + MARGIN))
    peers = {
        name: LlamaCpp(path, context=longest + MARGIN, threads=threads)
        for name, path in gguf_files(options.model).items()
    }
    rival = openvino(options.openvino, checkpoint, threads=threads)
    prompts = _prompts(ids, SHORT)
    rounds: list[dict[str, float]] = []
    for peer in peers.values():
        peer.prefill(prompts[0])
    for number in range(options.rounds + 1):
        figures = {f"int4 x{n}": int4.decode(prompts[:n], options.tokens) for n in REQUESTS}
        figures["int8 x1"] = int8.decode(prompts[:1], options.tokens)
        figures |= {name: options.tokens / peer.decode(SHORT, options.tokens) for name, peer in peers.items()}
        if rival:
            figures[NAME] = options.tokens / rival.decode(prompts[0], options.tokens)
        bandwidth = read_bandwidth(threads)
        figures["read GB/s"] = bandwidth / 1e9
        figures["products GB/s"] = int4.weight_bytes / int4.products() / 1e9
        figures["share"] = figures["products GB/s"] / figures["read GB/s"]
        if number:  # the first round warms up
            rounds.append(figures)
            print(f"round {number}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()), flush=True)
    int8.close()
    if rival:
        rival.close()

    print(f"\n{'tok/s':>10} {'context':>8} " + " ".join(f"{n:>6} req" for n in REQUESTS) + "  " + "  ".join(peers))
    middle = {name: median(r[name] for r in rounds) for name in rounds[0]}
    table = {SHORT: middle}
    for context in options.contexts:
        prompts = _prompts(ids, context)
        for prompt in prompts:
            int4.decode([prompt], 1)  # from here on its context is cached
        table[context] = {f"int4 x{n}": int4.decode(prompts[:n], options.tokens) for n in REQUESTS}
        for name, peer in peers.items():
            peer.prefill(prompts[0])
            table[context][name] = options.tokens / peer.decode(context, options.tokens)
    for context, row in table.items():
        ours = " ".join(f"{row[f'int4 x{n}']:>10.1f}" for n in REQUESTS)
        print(f"{'int4':>10} {context:>8} {ours}  " + "  ".join(f"{row[name]:>6.1f}" for name in peers))
    long_context_share = _long_context_share(int4, ids, options.long, options.tokens) if options.long else None
    int4.close()

    def ratio(above: str, below: str) -> float:
        return round(median(r[above] / r[below] for r in rounds), 3)

    print_result(
        {
            "benchmark": "decode",
            "vs_q4_k_m": ratio("int4 x1", "Q4_K_M"),
            "vs_q4_0": ratio("int4 x1", "Q4_0"),
            "vs_openvino": ratio("int4 x1", NAME) if rival else None,
            "bandwidth_share": round(middle["share"], 3),
            "long_context_share": long_context_share,
            "four_over_one": ratio("int4 x4", "int4 x1"),
            "int8_over_int4": ratio("int8 x1", "int4 x1"),
            "tokens_a_second": {str(c): {n: round(v, 1) for n, v in row.items()} for c, row in table.items()},
            "threads": threads,
            "rounds": options.rounds,
            "model": options.model,
            "openvino-genai": rival.version if rival else None,
        },
        "llama-cpp-python",
    )


def _long_context_share(engine: CpuEngine, ids: list[int], length: int, tokens: int) -> float:
    """Speed behind a long context over that behind a short one, in turns; the middle of three."""
    engine.decode([ids[:length]], 1)  # from here on its context is cached
    shares = []
    for _ in range(3):
        slow = engine.decode([ids[:length]], tokens)
        shares.append(slow / engine.decode([ids[:SHORT]], tokens))
    return round(median(shares), 3)


def _prompts(ids: list[int], length: int) -> list[list[int]]:
    """As many different prompts as there are requests at most."""
    return [ids[i * length : (i + 1) * length] for i in range(max(REQUESTS))]


if __name__ == "__main__":
    main()
