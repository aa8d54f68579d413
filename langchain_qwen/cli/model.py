"""From the options of a command to a chat model."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_qwen.cli.terminal import waiting

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.runnables import Runnable

    from langchain_qwen.chat_models import ChatQwen


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Arguments of ChatQwen; None leaves one to its default."""

    model: str
    precision: str = "auto"
    device: str = "auto"
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


def make_model(options: ModelOptions, *, load: bool = False) -> ChatQwen:
    """The model, its files on this machine.

    Args:
        options: Which, and its parameters.
        load: Load the weights now rather than for the first answer.
    """
    with waiting("Starting"):
        _quieten()
        from langchain_qwen.chat_models import ChatQwen
        from langchain_qwen.checkpoints import resolve

        model = ChatQwen(
            model=options.model,
            precision=options.precision,
            device=options.device,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            seed=options.seed,
        )
    resolve(options.model)  # shows progress bars where it has to download, which a spinner would garble
    if load:
        with waiting("Loading the weights"):
            model.load()
    return model


def _quieten() -> None:
    """Keep the terminal for the conversation.

    Transformers warns of things that its user, which is this package, has decided, and draws a bar while it loads,
    where we show a spinner. The hub client would report usage; a chat on one's own machine is nobody's business.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Read when it is first imported, which the CPU engine never does.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def stream_chunks(
    model: Runnable[LanguageModelInput, AIMessage], messages: Sequence[BaseMessage], wait: str
) -> Generator[AIMessageChunk, None, None]:
    """The chunks of an answer; a spinner shows `wait` until the first one with text is there."""
    chunks: Iterator[Any] = iter(model.stream(list(messages)))
    early: list[AIMessageChunk] = []
    with waiting(wait):
        for chunk in chunks:
            early.append(chunk)
            if chunk.text:
                break
    yield from early
    yield from chunks


def join(chunks: Sequence[AIMessageChunk]) -> AIMessage:
    """The message that the chunks of an answer make, complete or not."""
    from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message

    message = message_chunk_to_message(AIMessageChunk(content="") + list(chunks))
    assert isinstance(message, AIMessage)
    return message
