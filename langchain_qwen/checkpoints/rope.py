"""Rotary position embeddings as a config.json states them: plain, or stretched by YaRN.

Read as transformers does (`modeling_rope_utils.py`): `rope_scaling`, the older name, goes before `rope_parameters`, and
what stands in it before what stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError

DEFAULT_THETA = 10_000.0
LARGEST_WINDOW = 1 << 24
LARGEST_FACTOR = 1_024.0
DEFAULT_BETA_FAST, DEFAULT_BETA_SLOW = 32.0, 1.0


@dataclass(frozen=True, slots=True)
class Yarn:
    """How YaRN stretches the window (Peng et al. 2023, https://arxiv.org/abs/2309.00071).

    Attributes:
        factor: How many times longer the window becomes.
        original_window: Tokens that the model was trained on.
        attention_factor: What cosine and sine are multiplied by.
        beta_fast: Dimensions that rotate more often than this within the original window stay as they are.
        beta_slow: Those that rotate less often are stretched in full.
        truncate: Whether the bounds between the two are rounded outwards to whole dimensions.
    """

    factor: float
    original_window: int
    attention_factor: float
    beta_fast: float
    beta_slow: float
    truncate: bool


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotary embedding of a model.

    Attributes:
        theta: Base of the wavelengths.
        window: Tokens that prompt and answer can have together.
        yarn: None where nothing is stretched.
    """

    theta: float
    window: int
    yarn: Yarn | None = None


def read_rope(config: Mapping[str, Any], name: str) -> Rope:
    """Read the rotary embedding of a config.json whose sizes have been checked.

    With YaRN the window is the original one times the factor, as vLLM has it: a checkpoint of 32,768 tokens with the
    factor 4 that Qwen documents takes 131,072.

    Raises:
        IncompleteCheckpointError: A number is none or out of range.
        UnsupportedModelError: Another kind of scaling than YaRN.
    """
    settings = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(settings, dict):
        raise IncompleteCheckpointError(
            f"the config.json of {name} has rope_scaling or rope_parameters of a wrong type"
        )
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind not in ("default", "yarn") or any(isinstance(value, dict) for value in settings.values()):
        raise UnsupportedModelError(
            f"the config.json of {name} scales positions in the way {str(kind)[:80]!r} or differently from layer to "
            "layer; only YaRN ('yarn') is computed here. Take rope_scaling out to use the original window"
        )
    partial = settings.get("partial_rotary_factor")
    if partial is not None and partial != 1:
        raise UnsupportedModelError(f"the config.json of {name} rotates only a part of each head, which no Qwen2 does")
    values = {"rope_theta": config.get("rope_theta", DEFAULT_THETA), **settings}
    if (beside := config.get("original_max_position_embeddings")) is not None:
        values["original_max_position_embeddings"] = beside  # the one that goes before what stands in the settings
    numbers = _Numbers(values, name)
    theta = numbers.get("rope_theta", 1.001, 1e12)
    window: int = config["max_position_embeddings"]
    if kind == "default":
        return Rope(theta, window)
    yarn = _read_yarn(numbers, window)
    return Rope(theta, int(yarn.original_window * yarn.factor), yarn)


def _read_yarn(numbers: _Numbers, window: int) -> Yarn:
    original = numbers.get("original_max_position_embeddings", 1, LARGEST_WINDOW, window)
    factor = numbers.get("factor", 1, LARGEST_FACTOR)
    fast = numbers.get("beta_fast", 1e-3, 1e6, DEFAULT_BETA_FAST)
    slow = numbers.get("beta_slow", 1e-3, 1e6, DEFAULT_BETA_SLOW)
    truncate = numbers.values.get("truncate", True)
    if original != int(original) or original * factor > LARGEST_WINDOW or fast < slow or not isinstance(truncate, bool):
        raise numbers.damaged("has settings of YaRN that contradict each other")
    return Yarn(factor, int(original), _attention_factor(numbers, factor), fast, slow, truncate)


def _attention_factor(numbers: _Numbers, factor: float) -> float:
    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    own, all_dim = (numbers.get(key, 0, 100, 0.0) for key in ("mscale", "mscale_all_dim"))
    inferred = scale(own) / scale(all_dim) if own and all_dim else scale(1)
    return numbers.get("attention_factor", 1e-3, 100, inferred)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Settings and whose they are."""

    values: Mapping[str, Any]
    name: str

    def get(self, key: str, smallest: float, largest: float, default: float | None = None) -> float:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not smallest <= value <= largest:
            raise self.damaged(f"has no {key} between {smallest:g} and {largest:g}")
        return float(value)

    def damaged(self, what: str) -> IncompleteCheckpointError:
        return IncompleteCheckpointError(
            f"the config.json of {self.name} {what}; copy or download the checkpoint again"
        )
