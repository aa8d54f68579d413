"""OpenVINO GenAI as `benchmarks.openvino` runs it, in the peer's environment: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import sys

import numpy as np
import openvino_genai
from openvino import Tensor


def main() -> None:
    """Answer until the input ends, with the peer's own times in seconds."""
    folder, threads = sys.argv[1:]
    pipeline = openvino_genai.LLMPipeline(folder, "CPU", INFERENCE_NUM_THREADS=int(threads))
    print(json.dumps({"version": openvino_genai.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        config = openvino_genai.GenerationConfig(max_new_tokens=request["count"], ignore_eos=True, do_sample=False)
        metrics = pipeline.generate(Tensor(np.array([request["ids"]], np.int64)), config).perf_metrics
        if metrics.get_num_generated_tokens() != request["count"]:
            raise RuntimeError(f"{metrics.get_num_generated_tokens()} tokens instead of {request['count']}")
        rest = metrics.get_tpot().mean * (request["count"] - 1) / 1000
        print(json.dumps({"first": metrics.get_ttft().mean / 1000, "rest": rest}), flush=True)


if __name__ == "__main__":
    main()
