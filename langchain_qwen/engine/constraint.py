"""Grammars that limit what may be generated, on llguidance.

A grammar is compiled once for a tokenizer, and the latest ones are kept; each request's matcher is a copy at the
grammar's beginning and follows the answer token by token. The engine masks the logits with it before it samples, and
rolls it back with rejected drafts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from langchain_qwen.errors import EngineError, InvalidSchemaError, panics_as

# llguidance's own limits bound the work on one mask to some tens of milliseconds; what exceeds them is an error, here
# without the whole grammar in its message.
_LIMITS = LLParserLimits(verbose_errors=False)


@dataclass(frozen=True, slots=True, eq=False)
class Constraint:
    """A llguidance grammar over a tokenizer's vocabulary."""

    tokenizer: LLTokenizer
    grammar: str

    def check(self) -> None:
        """Raise `InvalidSchemaError` when the grammar does not compile."""
        if (compiled := _compiled(self.tokenizer, self.grammar)).is_error():
            raise InvalidSchemaError(f"the schema cannot be compiled to a grammar: {compiled.get_error()[:500]}")

    def matcher(self) -> Matcher:
        """Start at the beginning of an answer."""
        return Matcher(_compiled(self.tokenizer, self.grammar).deep_copy(), self.tokenizer.vocab_size)


@functools.lru_cache(maxsize=16)
def _compiled(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """A matcher at the beginning, to be copied (microseconds) and never advanced; compiling takes milliseconds."""
    with panics_as(InvalidSchemaError, "the schema cannot be compiled to a grammar: the compiler gave up"):
        return LLMatcher(tokenizer, grammar, limits=_LIMITS)


class Matcher:
    """Follows one answer through a grammar."""

    def __init__(self, inner: LLMatcher, vocab_size: int):
        self._inner = inner
        self._words: NDArray[np.int32] = np.zeros((vocab_size + 31) // 32, dtype=np.int32)
        self._vocab_size = vocab_size
        self._raise_on_error()

    @property
    def complete(self) -> bool:
        """Whether nothing but the end may follow."""
        return self._inner.is_stopped()

    @property
    def may_end(self) -> bool:
        """Whether the answer may end here."""
        return self._inner.is_accepting() or self._inner.is_stopped()

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next: a boolean array of the vocabulary's length."""
        self._inner.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        self._raise_on_error()
        if not self._words.any():
            raise EngineError("the grammar allows no further token, yet the answer is not complete")
        bits = np.unpackbits(self._words.view(np.uint8), bitorder="little")
        return bits[: self._vocab_size].view(np.bool_)

    def forced(self) -> list[int]:
        """Tokens that spell what must come next (one of possibly several spellings: a draft, not a fact)."""
        return self._inner.compute_ff_tokens()

    def accept(self, token: int) -> None:
        """Advance by one allowed token."""
        self._inner.consume_token(token)
        self._raise_on_error()

    def _raise_on_error(self) -> None:
        if self._inner.is_error():
            raise EngineError(f"the grammar failed: {self._inner.get_error()[:500]}")
