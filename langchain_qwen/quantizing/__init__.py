"""Quantised checkpoints made with calibration text, and what quantised weights cost.

GPTQModel does the work, with torch; rounding at load time is the business of `engine.runners.cpu`.
"""

from langchain_qwen.quantizing.calibration import calibration_texts, split_rows
from langchain_qwen.quantizing.gptq import check_quantization, quantize
from langchain_qwen.quantizing.quality import Agreement, Quality, compare, measure

__all__ = [
    "Agreement",
    "Quality",
    "calibration_texts",
    "check_quantization",
    "compare",
    "measure",
    "quantize",
    "split_rows",
]
