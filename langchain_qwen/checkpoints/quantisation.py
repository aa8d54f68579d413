"""What a checkpoint that is quantised already says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_qwen.errors import PrecisionError, UnsupportedModelError

PREQUANTIZED = ("gptq", "awq")
ADVICE = "use the release without quantisation with precision='int4' or 'int8'"


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the weights of a GPTQ or AWQ checkpoint are stored.

    Attributes:
        method: "gptq" or "awq".
        bits: 4 or 8.
        group_size: Columns that share a scale; -1 for all of a row.
        zero_offset: What has to be added to stored zero points: 1 in the first version of the GPTQ format.
    """

    method: str
    bits: int
    group_size: int
    zero_offset: int


def own_precision(name: str, config: Mapping[str, Any], precision: str) -> str:
    """The precision of a quantised checkpoint, the only one it can be held in.

    Args:
        name: The checkpoint, for errors.
        config: The `quantization_config` of its config.json.
        precision: What was asked for.

    Raises:
        UnsupportedModelError: It is quantised in a way that is not known.
        PrecisionError: Another precision was asked for.
    """
    method, bits = str(config.get("quant_method")), _bits(config)
    if method not in PREQUANTIZED:
        raise UnsupportedModelError(
            f"{name} is quantised with {method!r}; known are {', '.join(PREQUANTIZED)}. "
            "Use the release without quantisation and precision='int8' or 'int4'"
        )
    if precision not in ("auto", f"int{bits}"):
        raise PrecisionError(
            f"{name} holds {bits}-bit {method.upper()} weights, which cannot become {precision}; "
            "leave precision at 'auto'"
        )
    return f"int{bits}"


def read_quantisation(name: str, config: Mapping[str, Any]) -> Quantisation:
    """Read the `quantization_config` of a checkpoint that the CPU engine is to run.

    Raises:
        UnsupportedModelError: A method or variant that it does not read.
    """
    method, bits = str(config.get("quant_method")), _bits(config)
    group_size = config.get("group_size", config.get("q_group_size"))
    layout = str(config.get("checkpoint_format") or config.get("format") or config.get("version") or "").lower()
    known_bits: tuple[int, ...]
    layouts: tuple[str, ...]
    if method == "gptq":
        known_bits, layouts = (4, 8), ("", "gptq", "gptq_v2")
    elif method == "awq":
        layout = str(config.get("version") or layout).lower()
        known_bits, layouts = (4,), ("", "gemm")
    else:
        raise UnsupportedModelError(
            f"{name} is quantised with {method!r}; the CPU engine reads {', '.join(PREQUANTIZED)}: {ADVICE}"
        )
    if bits not in known_bits:
        raise _unsupported(name, method, f"{bits} bits", f"{' and '.join(map(str, known_bits))} bits")
    if config.get("is_marlin_format") or layout not in layouts:
        raise _unsupported(name, method, f"the layout {layout or 'marlin'!r}", " and ".join(filter(None, layouts)))
    if config.get("dynamic"):
        raise _unsupported(name, method, "settings that differ from layer to layer", "the same settings for all layers")
    if config.get("pack_dtype", "int32") not in ("int32", "torch.int32"):
        raise _unsupported(name, method, f"codes packed in {config['pack_dtype']}", "int32")
    if (
        not isinstance(group_size, int)
        or isinstance(group_size, bool)
        or not (group_size == -1 or (group_size > 0 and group_size % 32 == 0))
    ):
        raise _unsupported(name, method, f"groups of {group_size} columns", "multiples of 32 and -1")
    return Quantisation(method, bits, group_size, zero_offset=int(method == "gptq" and layout != "gptq_v2"))


def _bits(config: Mapping[str, Any]) -> int:
    bits = config.get("bits", config.get("w_bit", 4))
    return bits if isinstance(bits, int) and not isinstance(bits, bool) else 0


def _unsupported(name: str, method: str, found: str, known: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{name} has {method.upper()} weights with {found}; the CPU engine reads {known}. {ADVICE.capitalize()}"
    )
