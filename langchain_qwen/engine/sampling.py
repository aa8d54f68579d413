"""From logits to the next token.

Small pure functions, in the order in which they run; the order and the meanings are those of transformers'
`generate`. All take one row of logits, float32 of shape [vocabulary], on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from langchain_qwen.engine.protocol import SamplingParams

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

    def __init__(self, prompt_ids: tuple[int, ...], vocab_size: int, device: torch.device):
        self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self.seen[torch.tensor(prompt_ids, device=device)] = True
        self.in_answer = torch.zeros(vocab_size, dtype=torch.float32, device=device)

    def add(self, token: int) -> None:
        """Count one more token of the answer."""
        self.seen[token] = True
        self.in_answer[token] += 1


def needs_counts(params: SamplingParams) -> bool:
    """Whether any penalty is on."""
    return (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) != (1.0, 0.0, 0.0)


def adjust(logits: Tensor, params: SamplingParams, counts: TokenCounts | None) -> Tensor:
    """Logit bias and penalties."""
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=logits.device)
        bias = torch.tensor(list(params.logit_bias.values()), dtype=logits.dtype, device=logits.device)
        logits = logits.index_add(0, ids, bias)
    if counts is None:
        return logits
    if params.repetition_penalty != 1.0:
        penalised = torch.where(logits > 0, logits / params.repetition_penalty, logits * params.repetition_penalty)
        logits = torch.where(counts.seen, penalised, logits)
    if params.presence_penalty or params.frequency_penalty:
        logits = logits - params.frequency_penalty * counts.in_answer
        logits = logits - params.presence_penalty * (counts.in_answer > 0)
    return logits


def keep_probabilities(logits: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Temperature, top-k, top-p and min-p.

    Returns:
        The ids that may be drawn, ascending, and their probabilities (float64, summing to one up to rounding).
    """
    logits = logits.double() / params.temperature
    ids = torch.isfinite(logits).nonzero().squeeze(1)
    if 0 < params.top_k < len(ids):
        smallest = torch.topk(logits, params.top_k).values[-1]
        ids = ids[logits[ids] >= smallest]
    probs = torch.softmax(logits[ids], dim=0)
    if params.top_p < 1.0:
        # Tokens below this share cannot be in the nucleus: all of them together weigh less than 1 - top_p.
        # Leaving them out of the sort makes it some hundred times shorter.
        likely = (probs >= (1.0 - params.top_p) / len(probs)).nonzero().squeeze(1)
        order = likely[torch.sort(probs[likely], descending=True, stable=True).indices]
        mass_before = torch.cumsum(probs[order], dim=0) - probs[order]
        nucleus = order[mass_before < params.top_p].sort().values
        ids, probs = ids[nucleus], probs[nucleus]
        probs = probs / probs.sum()
    if params.min_p > 0.0:
        likely = (probs >= params.min_p * probs.max()).nonzero().squeeze(1)
        ids, probs = ids[likely], probs[likely]
        probs = probs / probs.sum()
    return ids, probs


def choose(logits: Tensor, params: SamplingParams, position: int) -> int:
    """The token at `position` of the answer: the most likely one, or one drawn by inverting the distribution."""
    if params.temperature == 0.0:
        return int(torch.argmax(logits))
    if logits.device.type == "mps":  # has no float64
        logits = logits.cpu()
    ids, probs = keep_probabilities(logits, params)
    cumulative = torch.cumsum(probs, dim=0)
    threshold = uniform(params.seed, position) * cumulative[-1]
    index = torch.searchsorted(cumulative, threshold, right=True)
    return int(ids[min(int(index), len(ids) - 1)])


def top_logprobs(logits: Tensor, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log probability of `token` and the `count` most likely ids with theirs, best first."""
    logprobs = torch.log_softmax(logits, dim=0)
    best = torch.topk(logprobs, count)
    alternatives = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return float(logprobs[token]), alternatives
