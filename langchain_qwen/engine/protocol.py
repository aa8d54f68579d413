"""What the engine takes and gives: token ids in, token ids out.

Nothing here knows of text, templates or LangChain.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from langchain_qwen.engine.constraint import Constraint
from langchain_qwen.errors import ContextOverflowError


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen from the logits.

    The steps run in the order of the fields' use in `sampling.py`: logit bias, penalties, temperature,
    top-k, top-p, min-p, which is the order of transformers' `generate`.

    Attributes:
        temperature: 0 is greedy: the most likely token, the lowest id among equals.
        top_k: Keep the k most likely tokens (and their equals); 0 keeps all.
        top_p: Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
        min_p: Drop tokens less likely than this share of the most likely one; 0 keeps all.
        repetition_penalty: Divides positive and multiplies negative logits of all tokens seen in prompt or
            answer (Keskar et al., arXiv:1909.05858); 1 is off.
        presence_penalty: Subtracted once from the logits of tokens in the answer (OpenAI's definition).
        frequency_penalty: Subtracted once for each time a token is in the answer.
        logit_bias: Added to the logits of these token ids.
        min_tokens: A request's `stop_ids` cannot be chosen before the answer has so many tokens, unless a constraint
            leaves nothing else.
        seed: With the position in the answer, decides every random number.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_tokens: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One generation.

    Attributes:
        prompt_ids: The whole prompt, at least one token.
        max_tokens: The most tokens to generate, at least one.
        stop_ids: Tokens that end the answer; they are not part of it.
        top_logprobs: None for no logprobs; else how many alternatives to report with each token (0 to 20).
        constraint: What the answer may be; None for anything.
        deadline: When (`time.monotonic()` seconds) to give up with `GenerationTimeoutError`; None for never.
        interrupted: Once it is set, by any thread, the request ends with `EngineError`; None for never.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    stop_ids: frozenset[int]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    top_logprobs: int | None = None
    constraint: Constraint | None = None
    deadline: float | None = None
    interrupted: threading.Event | None = None

    @property
    def was_interrupted(self) -> bool:
        """Whether whoever asked wants no answer any more."""
        return self.interrupted is not None and self.interrupted.is_set()

    def fits(self, window: int) -> bool:
        """Whether so many tokens are enough for prompt and answer."""
        return len(self.prompt_ids) + self.max_tokens <= window

    def overflow(self, window: int, holder: str, remedy: str) -> ContextOverflowError:
        """That it does not fit.

        Args:
            window: Tokens that there are.
            holder: Who holds how many, in the message.
            remedy: What helps besides asking for less.
        """
        length = len(self.prompt_ids)
        return ContextOverflowError(
            f"the prompt has {length} tokens and {self.max_tokens} are reserved for the answer, but {holder}; shorten "
            f"the messages, lower `max_tokens`, or {remedy}",
            prompt_tokens=length,
            reserved_tokens=self.max_tokens,
            context_window=window,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A step has read a piece of a long prompt, and more is to be read.

    Attributes:
        done: Tokens of the prompt that are read or were cached.
        total: Tokens of the prompt.
        left_s: Seconds that the rest takes at the pace so far.
    """

    done: int
    total: int
    left_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt has been processed and the first token follows.

    Attributes:
        prompt_tokens: Its length.
        cached_tokens: How many of them a cache held; None where the engine tells at the end (`Finished`) or not at all.
        queue_s: Seconds until the work began.
        prefill_s: Seconds of the work.
    """

    prompt_tokens: int
    cached_tokens: int | None
    queue_s: float
    prefill_s: float


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token.

    Attributes:
        id: The token.
        logprob: Its log probability under the unmodified logits (temperature 1, no penalties, no constraint).
        top_logprobs: The most likely ids at this position with their log probabilities, best first.
    """

    id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer ended by itself (`stop`) or at `max_tokens` (`length`).

    `cached_tokens` are those of the prompt, from an engine that did not know them when it began (`Started`).
    """

    reason: Literal["stop", "length"]
    completion_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    decode_s: float
    cached_tokens: int | None = None


Event = Reading | Started | Token | Finished


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The model that an engine runs, its window (in tokens, prompt and answer together), and where and how it runs."""

    model: str
    context_window: int
    vocab_size: int
    device: str
    precision: str


class Engine(Protocol):
    """Generates tokens for any number of requests at once.

    Both streams yield `Reading`s while a long prompt is read, one `Started`, then `Token`s, then one `Finished`.
    Closing the generator, or cancelling the task that reads it, stops the work at the next step.
    """

    @property
    def info(self) -> EngineInfo:
        """Window, vocabulary, device and precision."""
        ...

    def stream(self, request: Request) -> Generator[Event, None, None]:
        """Generate, blocking between events."""
        ...

    def astream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Generate without blocking the event loop."""
        ...

    def close(self, *, wait: bool = True) -> None:
        """Stop all work and free the weights, waiting for that or not; later calls raise `EngineClosedError`."""
        ...
