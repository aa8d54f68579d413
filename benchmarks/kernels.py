"""The matrix products of the CPU engine alone, on the shapes of the 1.5B: no weights are needed.

For each table of kernels that this processor has: billions of multiply-adds a second by tokens at once, and for one
token also the bytes of weights read a second. Copies of each matrix exceed the caches, as a model's do.

    python -m benchmarks.kernels
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import numpy as np

from benchmarks.common import print_environment, print_result
from benchmarks.kernel_tables import Activations, Kernels, kernels
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.cores import usable_cores
from langchain_qwen.engine.runners.cpu.kernels import tables
from langchain_qwen.engine.runners.cpu.packing import SPAN_BYTES, SUPER_BLOCK, packed_bytes

SHAPES = {
    "qkv": (2048, 1536),
    "out": (1536, 1536),
    "gate_up": (17920, 1536),
    "down": (1536, 8960),
    "head": (151936, 1536),
}
# K4 is what int4 means, K6 what half of a Q4_K_M file's bytes are; the plain groups of 64 hold GPTQ and AWQ.
FORMATS = {"K4": library.K4, "K6": library.K6, "int4": library.INT4, "int8": library.INT8}
GROUP = 64
BEYOND_CACHES = 1 << 28  # bytes of copies


def main() -> None:
    """Time all tables in turns and print them and the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="*", default=[1, 4, 8, 16, 64, 256], help="tokens at once")
    parser.add_argument("--shapes", nargs="*", choices=[*SHAPES], default=["qkv", "gate_up", "down"], help="matrices")
    parser.add_argument("--formats", nargs="*", choices=[*FORMATS], default=[*FORMATS], help="how the weights are held")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure, at least")
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args()
    print_environment()
    threads = usable_cores()
    names = [table.name for table in tables() if table.runs and table.name != "portable"]
    for table in tables():
        if not table.runs:
            print(f"skipped {table.name}: this processor cannot run it")
    print("skipped portable: the reference, hundreds of times slower")
    figures: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for form in options.formats:
            for shape in options.shapes:
                copies = matrices(FORMATS[form], *SHAPES[shape])
                for tokens in options.tokens:
                    best = dict.fromkeys(names, 0.0)
                    for _ in range(options.rounds):
                        for name in names:
                            rate = measure(kernels(name), copies, tokens, threads, options.seconds, pool)
                            best[name] = max(best[name], rate)
                    for name, rate in best.items():
                        row = figures.setdefault(name, {}).setdefault(form, {}).setdefault(shape, {})
                        row[str(tokens)] = round(rate * SHAPES[shape][0] * SHAPES[shape][1] * tokens / 1e9, 1)
                        if tokens == 1:
                            row["GB/s"] = round(rate * copies[0].bytes / 1e9, 1)
                    rates = ", ".join(f"{name} {figures[name][form][shape][str(tokens)]:.1f}" for name in names)
                    print(f"{form} {shape} x{tokens}: {rates} GMAC/s", flush=True)
    print_result({"benchmark": "kernels", "gmac_a_second": figures, "threads": threads})


def matrices(form: int, rows: int, cols: int) -> list[library.Matrix]:
    """Copies of a matrix of random codes, enough of them to exceed the caches."""
    group = SUPER_BLOCK if form in SPAN_BYTES else GROUP
    block_bytes, scales = packed_bytes(form, group, 8, group), 8 if form == library.K6 else 16
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (rows // 8, cols // group, block_bytes), np.uint8)
    small = (random.random((*blocks.shape[:2], scales)) / 100).astype(np.float16)
    blocks[..., -2 * scales :] = small.view(np.uint8)
    found = []
    for _ in range(BEYOND_CACHES // blocks.nbytes + 1):
        data = blocks.copy()
        matrix = library.Matrix(form, group, rows, cols, rows, data.nbytes, data.ctypes.data, None, None)
        matrix.kept = data  # the struct holds an address alone
        found.append(matrix)
    return found


def measure(
    table: Kernels, copies: list[library.Matrix], tokens: int, threads: int, seconds: float, pool: ThreadPoolExecutor
) -> float:
    """Products of a whole matrix a second. Each thread goes through its panels of all copies; ctypes frees the GIL."""
    rows, cols = copies[0].rows, copies[0].cols
    x = np.random.default_rng(1).normal(size=(tokens, cols)).astype(np.float32)
    acts, out = Activations(table, copies[0], x), np.empty((tokens, rows), np.float32)
    share = -(-rows // 8 // threads)

    def work(thread: int, count: int) -> None:
        first, last = thread * share, min((thread + 1) * share, rows // 8)
        for matrix in islice(cycle(copies), count):
            table.multiply(matrix, acts.struct, tokens, first, last, out.ctypes.data)

    count = 1
    while True:
        start = time.perf_counter()
        list(pool.map(work, range(threads), [count] * threads))
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return count / elapsed
        count = max(2 * count, int(count * seconds / elapsed) + 1)


if __name__ == "__main__":
    main()
