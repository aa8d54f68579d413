"""The plain way: all tokens through the model at every step, no cache, no batch, a sampler with full sorts."""

from __future__ import annotations

import numpy as np
import torch

from langchain_qwen.engine import Request, SamplingParams


def naive_uniform(seed: int, position: int) -> float:
    """SplitMix64, written out."""
    mask = 2**64 - 1

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    return (mix((mix(seed & mask) + (position + 1) * 0x9E3779B97F4A7C15) & mask) >> 11) / 2**53


def naive_choose(logits: np.ndarray, p: SamplingParams, prompt: list[int], answer: list[int]) -> int:
    """The definitions of `SamplingParams`, one after the other."""
    logits = logits.astype(np.float32).copy()
    for token, bias in p.logit_bias.items():
        logits[token] += np.float32(bias)
    for token in set(prompt) | set(answer):
        factor = np.float32(p.repetition_penalty)
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    for token in set(answer):
        logits[token] -= np.float32(p.frequency_penalty) * np.float32(answer.count(token))
        logits[token] -= np.float32(p.presence_penalty)
    if p.temperature == 0:
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) / p.temperature
    kept = [i for i in range(len(scaled)) if np.isfinite(scaled[i])]
    if 0 < p.top_k < len(kept):
        smallest = sorted((scaled[i] for i in kept), reverse=True)[p.top_k - 1]
        kept = [i for i in kept if scaled[i] >= smallest]

    def probabilities(ids: list[int]) -> dict[int, float]:
        weights = np.exp(scaled[ids] - scaled[ids].max())
        return dict(zip(ids, weights / weights.sum(), strict=True))

    probs = probabilities(kept)
    nucleus, mass = [], 0.0
    for token in sorted(kept, key=lambda i: (-probs[i], i)):
        if p.top_p < 1 and mass >= p.top_p:
            break
        nucleus.append(token)
        mass += probs[token]
    probs = probabilities(sorted(nucleus))
    likeliest = max(probs.values())
    kept = [i for i in probs if probs[i] >= p.min_p * likeliest]
    probs = probabilities(kept)
    threshold, cumulative = naive_uniform(p.seed, len(answer)), 0.0
    for token in kept:
        cumulative += probs[token]
        if cumulative > threshold:
            return token
    return kept[-1]


@torch.inference_mode()
def naive_generate(model: torch.nn.Module, request: Request) -> list[int]:
    """The whole answer of a request without a constraint."""
    prompt, answer = list(request.prompt_ids), []
    while len(answer) < request.max_tokens:
        logits = model(torch.tensor([prompt + answer])).logits[0, -1].float().numpy()
        if len(answer) < request.sampling.min_tokens:
            logits[sorted(request.stop_ids)] = -np.inf
        token = naive_choose(logits, request.sampling, prompt, answer)
        if token in request.stop_ids:
            break
        answer.append(token)
    return answer
