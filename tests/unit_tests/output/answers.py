"""Answers under a grammar: whether one is possible, and random ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

import numpy as np
from llguidance import LLTokenizer

from langchain_qwen.engine.constraint import Constraint
from tests.tiny import tiny_tokenizer

VOCABULARY = 320


@cache
def tokenizer() -> LLTokenizer:
    return LLTokenizer(tiny_tokenizer().to_str(), n_vocab=VOCABULARY)


def allows(grammar: str, text: str) -> bool:
    """Whether `text` is a whole answer; tags in it are control tokens."""
    matcher = Constraint(tokenizer(), grammar).matcher()
    for token in tokenizer().tokenize_str(text, parse_special=True):
        if matcher.complete or not matcher.allowed()[token]:
            return False
        matcher.accept(token)
    return matcher.complete or any(matcher.allowed()[end] for end in tokenizer().eos_tokens)


def random_answers(grammar: str, *, seed: int, count: int = 4, max_tokens: int = 300) -> Iterator[str]:
    """Answers of a model that picks any allowed token, in a growing hurry to come to an end; only finished ones."""
    closing = np.array(sorted({t for c in '"}],:1e. ab' for t in tokenizer().tokenize_str(c)}))
    rng = random.Random(seed)
    for _ in range(count):
        matcher = Constraint(tokenizer(), grammar).matcher()
        tokens: list[int] = []
        while not matcher.complete and len(tokens) < max_tokens:
            allowed = matcher.allowed()
            candidates = closing[allowed[closing]]
            if not len(candidates) or rng.random() > min(0.3 + len(tokens) / 100, 0.9):
                candidates = np.flatnonzero(allowed)
            token = int(rng.choice(candidates))
            if token in tokenizer().eos_tokens:
                break
            tokens.append(token)
            matcher.accept(token)
        else:
            if not matcher.complete:
                continue
        yield tokenizer().decode_bytes(tokens).decode()
