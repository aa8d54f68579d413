"""A request as vLLM wants it. The names are the same in its Python classes and in its API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_qwen.engine.protocol import Request
from langchain_qwen.errors import InvalidParameterError

MOST_BIAS = 100.0  # the API cuts more than this to it, without a word
# Names the dialect. Without it vLLM guesses, and its other reader of Lark drops what it does not know.
HEADER = "%llguidance {}\n"


def sampling_fields(request: Request) -> dict[str, Any]:
    """How to choose tokens, and when to end. Nothing is left out: vLLM would fill it from its own defaults.

    Raises:
        InvalidParameterError: A bias that vLLM would change.
    """
    sampling = request.sampling
    for token, bias in sampling.logit_bias.items():
        if not -MOST_BIAS <= bias <= MOST_BIAS:
            raise InvalidParameterError(
                f"logit_bias of token {token} is {bias}; vLLM takes -100 to 100 and cuts what is beyond"
            )
    fields: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "min_tokens": min(sampling.min_tokens, request.max_tokens),
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed & (1 << 63) - 1,
        "stop_token_ids": sorted(request.stop_ids),
        "ignore_eos": True,  # what ends an answer is said above
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }
    if sampling.logit_bias:
        fields["logit_bias"] = dict(sampling.logit_bias)
    if request.top_logprobs is not None:
        fields["logprobs"] = request.top_logprobs
    if request.constraint is not None:
        fields["structured_outputs"] = {"grammar": HEADER + request.constraint.grammar.removeprefix(HEADER)}
    return fields


def likeliest(found: Iterable[tuple[int, float]], count: int) -> tuple[tuple[int, float], ...]:
    """The `count` most likely tokens with their log probabilities, best first; vLLM adds the chosen one to them."""
    return tuple(sorted(found, key=_rank)[:count])


def _rank(entry: tuple[int, float]) -> tuple[float, int]:
    return -entry[1], entry[0]
