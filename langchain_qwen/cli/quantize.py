"""`langchain-qwen quantize`: a quantised checkpoint, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from langchain_qwen.cli.terminal import read_text, say, show, waiting

if TYPE_CHECKING:
    from langchain_qwen.checkpoints import Checkpoint
    from langchain_qwen.quantizing import Quality


def quantize(
    source: str, target: Path, *, calibration: Path, bits: int, group_size: int, act_order: bool, device: str
) -> None:
    """Quantise a model with GPTQ, print the folder, and report on the quality.

    Raises:
        QwenError: The model, the text or the settings cannot be used, or GPTQModel is missing.
    """
    text = read_text(calibration)
    with waiting("Starting"):
        from langchain_qwen import quantizing
        from langchain_qwen.checkpoints import resolve
        from langchain_qwen.checkpoints.pulling import in_safetensors
        from langchain_qwen.prompting import Tokenizer
    texts = list(quantizing.calibration_texts(text, calibration))
    checkpoint = in_safetensors(resolve(source), f"int{bits}")
    quantizing.check_quantization(checkpoint, target, bits=bits, group_size=group_size)
    tokenizer = Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, checkpoint.eos_token_ids)
    used, held_out = quantizing.split_rows(texts, tokenizer, calibration)
    say(f"{sum(map(len, used)):,} tokens for calibration, {sum(map(len, held_out)):,} held out for the report")
    made = quantizing.quantize(
        checkpoint, target, used, bits=bits, group_size=group_size, act_order=act_order, device=device
    )
    show(str(target))
    with Progress(transient=True) as progress:
        task = progress.add_task("Comparing", total=sum(len(row) - 1 for row in held_out))
        quality = quantizing.measure(
            checkpoint, made, held_out, device=device, advance=lambda count: progress.advance(task, count)
        )
    say(_report(quality, checkpoint, made), style="")


def _report(quality: Quality, source: Checkpoint, made: Checkpoint) -> str:
    return (
        f"On {quality.tokens:,} tokens of the calibration text that were held out:\n"
        f"perplexity {quality.perplexity_before:.3f} in bf16, {quality.perplexity_after:.3f} quantised; "
        f"KL divergence {quality.kl:.4f}; the same most likely token for {quality.same_top:.1%}\n"
        f"{source.parameter_bytes / 1e9:.2f} GB became {made.parameter_bytes / 1e9:.2f} GB\n"
        f'Use it: langchain-qwen chat --model {made.path}, or ChatQwen(model="{made.path}").'
    )
