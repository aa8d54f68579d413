"""Starting on the CPU: quantising at the first start, mapping the weights at later ones, and the memory used.

Each start runs in a process of its own, so that nothing is warm but the system's file cache.

    python -m benchmarks.load --model coder-1.5b
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

import psutil

from benchmarks.common import argument_parser, print_environment, print_result

CONTEXT = 2048


def main() -> None:
    """Run the starts and print the result."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5, help="warm starts")
    parser.add_argument("--start", action="store_true", help="be one of the processes")
    options = parser.parse_args()
    if options.start:
        print(json.dumps(start(options.model, options.precision)))
        return
    print_environment()
    with tempfile.TemporaryDirectory() as cache:
        # Only the packed weights are to be made anew: the checkpoint stays where it is.
        from langchain_qwen.checkpoints import resolve

        folder = str(resolve(options.model).place)
        cold = _in_a_process(folder, options.precision, cache)
        print(f"cold: {cold}", flush=True)
        warm = []
        for _ in range(options.rounds):
            warm.append(_in_a_process(folder, options.precision, cache))
            print(f"warm: {warm[-1]}", flush=True)
    print_result(
        {
            "benchmark": "load",
            "warm_start_s": round(median(w["ready_s"] for w in warm), 3),
            "rss_gb": round(median(w["rss_gb"] for w in warm), 3),
            "cold_start_s": cold["ready_s"],
            "cold_peak_gb": cold["peak_gb"],
            "warm_peak_gb": round(median(w["peak_gb"] for w in warm), 3),
            "import_s": round(median(w["import_s"] for w in warm), 2),
            "first_token_s": round(median(w["first_token_s"] for w in warm), 3),
            "context": CONTEXT,
            "model": options.model,
            "precision": options.precision,
        }
    )


def start(folder: str, precision: str) -> dict[str, Any]:
    """Import, load, answer, fill the context; seconds and memory on the way."""
    clock = time.perf_counter()

    def lap() -> float:
        nonlocal clock
        before, clock = clock, time.perf_counter()
        return round(clock - before, 3)

    from langchain_core.messages import HumanMessage

    from langchain_qwen import ChatQwen

    result: dict[str, Any] = {"import_s": lap()}
    # The window that is asked for is the KV memory that is reserved: two tokens of 16-bit numbers for each layer.
    with ChatQwen(model=folder, precision=precision, temperature=0, max_tokens=1) as model:
        model.load()
        result["ready_s"] = lap()
        model.invoke("Hi")
        result["first_token_s"] = lap()
        result["peak_gb"] = _peak_gb()
        words = CONTEXT
        while model.get_num_tokens_from_messages([HumanMessage("word " * words)]) > CONTEXT:
            words -= 8
        model.invoke("word " * words)
        result["rss_gb"] = round(psutil.Process().memory_info().rss / 1e9, 3)
    return result


def _peak_gb() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 3)


def _in_a_process(folder: str, precision: str, cache: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.load", "--start", "--model", folder, "--precision", precision]
    environment = {**os.environ, "LANGCHAIN_QWEN_CACHE": cache}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
