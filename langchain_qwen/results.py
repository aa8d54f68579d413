"""Around the chunks of an answer: whole results, their figures, and what a class of the caller makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult

from langchain_qwen.structured_output import parsed

Usage = dict[str, int]


class Closing:
    """What a stream's last chunk gains: `token_usage`, and `parsed` where a class was asked for.

    Args:
        response_format: As the caller gave it.
        stream_usage: Whether the chunk says how many tokens were used.
    """

    def __init__(self, response_format: Any, *, stream_usage: bool):
        self._class = response_format if isinstance(response_format, type) else None
        self._stream_usage = stream_usage
        self._text: list[str] = []
        self._calls = False

    def close(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """The chunk itself, changed if it is the last one."""
        message = chunk.message
        assert isinstance(message, AIMessageChunk)
        if self._class is not None:
            self._text.append(chunk.text)
            self._calls = self._calls or bool(message.tool_call_chunks)
        if message.usage_metadata is None:
            return chunk
        if self._class is not None and not self._calls and message.response_metadata.get("finish_reason") == "stop":
            message.additional_kwargs["parsed"] = parsed(self._class, "".join(self._text))
        if self._stream_usage:
            message.response_metadata["token_usage"] = _token_usage(message)
        else:
            message.usage_metadata = None
        return chunk


def as_result(answers: Sequence[list[ChatGenerationChunk]]) -> ChatResult:
    """One message of the chunks of each answer, as a caller that adds them up would get it."""
    generations = [_generation(chunks) for chunks in answers]
    identity = _identity(generations[0])
    usages = [usage for one in generations if (usage := one.message.response_metadata.get("token_usage"))]
    if not usages:  # a class of the caller's own streams without them
        return ChatResult(generations=generations, llm_output=identity)
    # The answers have one prompt.
    usage = _sum([{**usages[0], "completion_tokens": sum(usage["completion_tokens"] for usage in usages)}])
    return ChatResult(generations=generations, llm_output={**identity, "token_usage": usage})


def combined_llm_outputs(outputs: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """The figures of several prompts together; those that came from a cache have none."""
    known = [output for output in outputs if output]
    if not known:
        return {}
    usages = [output["token_usage"] for output in known if "token_usage" in output]
    return {**known[0], "token_usage": _sum(usages)} if usages else known[0]


def combined(results: Sequence[LLMResult]) -> LLMResult:
    """Results of one prompt each as the result of all."""
    generations = [generation for result in results for generation in result.generations]
    whole = LLMResult(
        generations=generations, llm_output=combined_llm_outputs([result.llm_output for result in results])
    )
    runs = [run for result in results for run in result.run or ()]
    whole.run = runs or None
    return whole


def _generation(chunks: list[ChatGenerationChunk]) -> ChatGeneration:
    message = message_chunk_to_message(AIMessageChunk(content="") + [chunk.message for chunk in chunks])
    info = {k: message.response_metadata[k] for k in ("finish_reason", "logprobs") if k in message.response_metadata}
    return ChatGeneration(message=message, generation_info=info)


def _identity(generation: ChatGeneration) -> dict[str, Any]:
    metadata = generation.message.response_metadata
    return {name: metadata[name] for name in ("model_name", "system_fingerprint") if name in metadata}


def _token_usage(message: AIMessageChunk) -> Usage:
    """OpenAI's names."""
    assert message.usage_metadata
    usage = message.usage_metadata
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }


def _sum(usages: Sequence[Usage]) -> Usage:
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    completion = sum(usage["completion_tokens"] for usage in usages)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
