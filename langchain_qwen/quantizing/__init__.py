"""Quantised checkpoints made with calibration text, and what quantised weights cost.

4-bit GGUF files are made with our own engine, GPTQ checkpoints by GPTQModel, with torch. Rounding at load time, without
a text, is the business of `engine.runners.cpu`.
"""

from langchain_qwen.quantizing.calibration import BUILT_IN, calibration_texts, split_rows
from langchain_qwen.quantizing.gptq import check_quantization, quantize
from langchain_qwen.quantizing.int4 import MOST_ROWS, check_int4, quantize_int4
from langchain_qwen.quantizing.quality import Agreement, Quality, compare, measure

__all__ = [
    "BUILT_IN",
    "MOST_ROWS",
    "Agreement",
    "Quality",
    "calibration_texts",
    "check_int4",
    "check_quantization",
    "compare",
    "measure",
    "quantize",
    "quantize_int4",
    "split_rows",
]
