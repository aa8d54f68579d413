"""Chunks of answers added up: whole results and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult

Usage = dict[str, int]


def as_result(answers: Sequence[list[ChatGenerationChunk]]) -> ChatResult:
    """One message of the chunks of each answer, as a caller that adds them up would get it."""
    generations = [_generation(chunks) for chunks in answers]
    identity = _identity(generations[0])
    usages = _usages([one.message.response_metadata for one in generations])
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
    usages = _usages(known)
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


def _usages(metadata: Sequence[dict[str, Any]]) -> list[Usage]:
    """Those that are told, and as here: a guarded model may be another package's."""
    told = [one["token_usage"] for one in metadata if isinstance(one.get("token_usage"), dict)]
    return [usage for usage in told if {"prompt_tokens", "completion_tokens"} <= usage.keys()]


def _sum(usages: Sequence[Usage]) -> Usage:
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    completion = sum(usage["completion_tokens"] for usage in usages)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
