"""`langchain-qwen quantize`: a quantised checkpoint, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_qwen.bars import Bar
from langchain_qwen.cli.terminal import read_text, say, show, waiting
from langchain_qwen.errors import InvalidParameterError

if TYPE_CHECKING:
    from langchain_qwen.checkpoints import Checkpoint
    from langchain_qwen.quantizing import Quality

Rows = list[list[int]]


def quantize_gptq(
    source: str, target: Path, *, calibration: Path | None, bits: int, group_size: int, act_order: bool, device: str
) -> None:
    """Quantise a model with GPTQ, print the folder, and report on the quality.

    Raises:
        QwenError: The model, the text or the settings cannot be used, or GPTQModel is missing.
    """
    if calibration is None:
        raise InvalidParameterError("GPTQ needs a text to calibrate with: --calibration notes.txt")
    texts = _texts(calibration)
    from langchain_qwen import quantizing

    checkpoint = _resolve(source, f"int{bits}")
    quantizing.check_quantization(checkpoint, target, bits=bits, group_size=group_size)
    used, held_out = _rows(checkpoint, texts, calibration)
    made = quantizing.quantize(
        checkpoint, target, used, bits=bits, group_size=group_size, act_order=act_order, device=device
    )
    _finish(checkpoint, made, held_out, device)


def quantize_int4(source: str, target: Path, calibration: Path | None, given: Sequence[str]) -> None:
    """Round a model to 4 bits as a text wants it, print the file, and report on the quality.

    Args:
        source: The model.
        target: The file.
        calibration: The text; None is a mix of our own.
        given: Options that this method does not have.

    Raises:
        QwenError: The model, the text or the settings cannot be used, or the gguf package is missing.
    """
    if given:
        raise InvalidParameterError(f"{', '.join(given)} cannot be chosen for int4, only for --method gptq")
    from langchain_qwen import quantizing

    path = quantizing.BUILT_IN if calibration is None else calibration
    texts = _texts(path)
    checkpoint = _resolve(source, "int4")
    quantizing.check_int4(checkpoint, target)
    used, held_out = _rows(checkpoint, texts, path, quantizing.MOST_ROWS)
    made = quantizing.quantize_int4(checkpoint, target, used)
    _finish(checkpoint, made, held_out, "cpu")


def _texts(path: Path) -> list[str]:
    content = read_text(path)
    with waiting("Starting"):
        from langchain_qwen import quantizing
    return list(quantizing.calibration_texts(content, path))


def _resolve(source: str, precision: str) -> Checkpoint:
    from langchain_qwen.checkpoints import resolve
    from langchain_qwen.checkpoints.pulling import in_safetensors

    return in_safetensors(resolve(source), precision)


def _rows(checkpoint: Checkpoint, texts: list[str], path: Path, most: int | None = None) -> tuple[Rows, Rows]:
    from langchain_qwen import quantizing
    from langchain_qwen.prompting import Tokenizer

    tokenizer = Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, checkpoint.eos_token_ids)
    used, held_out = quantizing.split_rows(texts, tokenizer, path, most)
    say(f"{sum(map(len, used)):,} tokens for calibration, {sum(map(len, held_out)):,} held out for the report")
    return used, held_out


def _finish(checkpoint: Checkpoint, made: Checkpoint, held_out: Rows, device: str) -> None:
    """Print where it is, then what it costs."""
    from langchain_qwen import quantizing

    show(str(made.place))
    with Bar("Comparing", sum(len(row) - 1 for row in held_out), unit="tokens") as bar:
        quality = quantizing.measure(checkpoint, made, held_out, device=device, advance=bar.advance)
    say(_report(quality, checkpoint, made), style="")


def _report(quality: Quality, source: Checkpoint, made: Checkpoint) -> str:
    return (
        f"On {quality.tokens:,} tokens of the calibration text that were held out:\n"
        f"perplexity {quality.perplexity_before:.3f} in bf16, {quality.perplexity_after:.3f} quantised; "
        f"KL divergence {quality.kl:.4f}; the same most likely token for {quality.same_top:.1%}\n"
        f"{source.parameter_bytes / 1e9:.2f} GB became {made.parameter_bytes / 1e9:.2f} GB\n"
        f'Use it: langchain-qwen chat --model {made.place}, or ChatQwen(model="{made.place}").'
    )
