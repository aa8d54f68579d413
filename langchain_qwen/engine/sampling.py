"""From logits to the next token.

Small pure functions, in the order in which they run; the order and the meanings are those of transformers'
`generate`. All take one row of logits, float32 of shape [vocabulary]. In numpy and not in torch: waking torch's threads
for one row costs more than the work.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.engine.protocol import SamplingParams

Logits = NDArray[np.float32]

_U64 = (1 << 64) - 1


def uniform(seed: int, position: int) -> float:
    """The random number in [0, 1) of a position: SplitMix64 of seed and position, its upper 53 bits.

    A function of its arguments alone, so an answer does not depend on what else is being generated.
    """
    z = (_mix(seed & _U64) + (position + 1) * 0x9E3779B97F4A7C15) & _U64
    return (_mix(z) >> 11) * 2.0**-53


def _mix(z: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _U64
    return z ^ (z >> 31)


class TokenCounts:
    """What the penalties need to know of one request: tokens seen at all, and how often in the answer."""

    def __init__(self, prompt_ids: tuple[int, ...]):
        self._answer: dict[int, int] = {}
        self._seen = dict.fromkeys(prompt_ids)  # ordered, so that new ones are added at the end
        self._seen_ids = np.fromiter(self._seen, np.int64, len(self._seen))

    def add(self, token: int) -> None:
        """Count one more token of the answer."""
        self._answer[token] = self._answer.get(token, 0) + 1
        if token not in self._seen:
            self._seen[token] = None
            self._seen_ids = np.append(self._seen_ids, token)

    @property
    def seen(self) -> NDArray[np.int64]:
        """The different tokens of prompt and answer."""
        return self._seen_ids

    @property
    def in_answer(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The different tokens of the answer, and how often each is there."""
        count = len(self._answer)
        return np.fromiter(self._answer, np.int64, count), np.fromiter(self._answer.values(), np.float32, count)


class Loop:
    """Ends loops of an answer under a grammar, where nothing else would: small models write the same item for ever.

    An answer is in a loop when its last tokens stood right before them too: at least two periods and 64 tokens of them
    in the second half of `max_tokens`, where a loop would leave no room for the rest, and 512 anywhere. Each token that
    goes on with it then lowers the logits of all tokens of the period, until something else is likelier; what closes
    the string or the list is no part of the period. Before that nothing changes, and the prompt does not count: rows
    of zeros and other honest repetitions go through.

    Args:
        max_tokens: Of the request.
    """

    LONGEST, LATE, ANYWHERE, STEP = 128, 64, 512, np.float32(0.25)

    def __init__(self, max_tokens: int):
        self._half = max_tokens // 2
        self._answer: list[int] = []
        # By period: how many of the last tokens equal those a period before them.
        self._runs = np.zeros(self.LONGEST + 1, np.int64)
        self._lowered: dict[int, np.float32] = {}

    def add(self, token: int) -> None:
        """One more token of the answer."""
        before = np.array(self._answer[: -self.LONGEST - 1 : -1], np.int64)  # the nearest first
        runs = self._runs[1 : len(before) + 1]
        runs[:] = np.where(before == token, runs + 1, 0)
        self._answer.append(token)
        least = self.LATE if len(self._answer) > self._half else self.ANYWHERE
        looping = np.flatnonzero(self._runs >= np.maximum(2 * np.arange(len(self._runs)), least))
        if len(looping):
            for looped in {*self._answer[-looping[0] :]}:
                self._lowered[looped] = self._lowered.get(looped, np.float32(0)) + self.STEP

    def lower(self, logits: Logits) -> Logits:
        """The logits, lowered where there is a loop."""
        if not self._lowered:
            return logits
        logits = logits.copy()
        logits[[*self._lowered]] -= np.fromiter(self._lowered.values(), np.float32, len(self._lowered))
        return logits


def needs_counts(params: SamplingParams) -> bool:
    """Whether any penalty is on."""
    return (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) != (1.0, 0.0, 0.0)


def adjust(logits: Logits, params: SamplingParams, counts: TokenCounts | None) -> Logits:
    """Logit bias and penalties; a new array if there are any."""
    if not params.logit_bias and counts is None:
        return logits
    logits = logits.copy()
    for token, bias in params.logit_bias.items():
        logits[token] += np.float32(bias)
    if counts is None:
        return logits
    if params.repetition_penalty != 1.0:
        penalty, values = np.float32(params.repetition_penalty), logits[counts.seen]
        logits[counts.seen] = np.where(values > 0, values / penalty, values * penalty)
    if params.presence_penalty or params.frequency_penalty:
        ids, times = counts.in_answer
        logits[ids] -= np.float32(params.frequency_penalty) * times
        logits[ids] -= np.float32(params.presence_penalty)
    return logits


def without(logits: Logits, ids: Collection[int]) -> Logits:
    """These ids cannot be chosen, unless there are no others."""
    masked = logits.copy()
    masked[list(ids)] = -np.inf
    return masked if masked.max() > -np.inf else logits


def keep_probabilities(logits: Logits, params: SamplingParams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Temperature, top-k, top-p and min-p.

    Returns:
        The ids that may be drawn, ascending, and their probabilities (summing to one up to rounding).
    """
    if 0 < params.top_k < len(logits):
        # Fewer than k finite ones make this -inf: then all of those are kept.
        smallest = np.partition(logits, -params.top_k)[-params.top_k]
        ids = np.flatnonzero(logits >= smallest)
        ids = ids[np.isfinite(logits[ids])]
    else:
        ids = np.flatnonzero(np.isfinite(logits))
    probs = _softmax(logits[ids].astype(np.float64), params.temperature)
    if params.top_p < 1.0:
        # Tokens below this share cannot be in the nucleus: all of them together weigh less than 1 - top_p.
        # Leaving them out of the sort makes it some hundred times shorter.
        likely = np.flatnonzero(probs >= (1.0 - params.top_p) / len(probs))
        order = likely[np.argsort(-probs[likely], kind="stable")]
        mass_before = np.cumsum(probs[order]) - probs[order]
        nucleus = np.sort(order[mass_before < params.top_p])
        ids, probs = ids[nucleus], probs[nucleus]
        probs = probs / probs.sum()
    if params.min_p > 0.0:
        likely = np.flatnonzero(probs >= params.min_p * probs.max())
        ids, probs = ids[likely], probs[likely]
        probs = probs / probs.sum()
    return ids, probs


def choose(logits: Logits, params: SamplingParams, position: int) -> int:
    """The token at `position` of the answer: the most likely one, or one drawn by inverting the distribution."""
    if params.temperature == 0.0:
        return int(logits.argmax())
    ids, probs = keep_probabilities(logits, params)
    cumulative = np.cumsum(probs)
    threshold = uniform(params.seed, position) * cumulative[-1]
    index = np.searchsorted(cumulative, threshold, side="right")
    return int(ids[min(int(index), len(ids) - 1)])


def top_logprobs(logits: Logits, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log probability of `token` and the `count` most likely ids with theirs, best first."""
    shifted = logits.astype(np.float64) - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum())
    best = np.argpartition(-logits, count)[: count + 1]
    best = best[np.argsort(-logits[best], kind="stable")][:count]
    return float(logprobs[token]), tuple((int(i), float(logprobs[i])) for i in best)


def _softmax(x: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # next to zero, all but the largest are infinitely far behind it
        weights: NDArray[np.float64] = np.exp((x - x.max()) / temperature)
    weights /= weights.sum()
    return weights
