"""The chance that an answer is wrong: a logistic model over what is cheap to know of it.

`risk-0.5b.json` and `risk-1.5b.json` hold its coefficients for two sizes of Qwen2.5, and how they were made, as
`python -m langchain_qwen.grounding calibrate` writes them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from langchain_qwen.errors import InvalidParameterError

KEPT = 0.95
_PENALTY = 2.0  # of the squared weights of standardised features
_STEPS = 50
_SMALL_MODEL = 1000  # hidden units below which a checkpoint counts as a 0.5B


class Logistic(BaseModel):
    """Log odds as a sum of features.

    Attributes:
        weights: For each feature what it counts, per unit.
        intercept: The log odds where all are 0.
        rows: How many rows it was fitted on.
        limit: The risk below which `KEPT` of the right answers were, judged on sets that were not fitted on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, float]
    intercept: float
    rows: int
    limit: float = 1.0

    def chance(self, features: Mapping[str, float]) -> float:
        """The chance that the answer is wrong, from 0 to 1."""
        odds = self.intercept + sum(weight * features[name] for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, odds))))

    def knows(self, features: Mapping[str, float]) -> bool:
        """Whether all that it is fitted on is there."""
        return self.weights.keys() <= features.keys()


class Calibration(BaseModel):
    """How risk is read off, for one model.

    Attributes:
        model: Which model it was made with.
        made: How it was made.
        glance: From the words of question and passages alone; its limit is the risk below which half of the questions
            were, where the model need not be asked before an answer is passed on.
        early: From what is known before there is an answer.
        whole: From all that is known of an answer.
        words: From its words alone, for models that report no log probabilities.
        memory: Of an answer without passages, see `langchain_qwen.grounding.memory`; the package's own have it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    made: str
    glance: Logistic
    early: Logistic
    whole: Logistic
    words: Logistic
    memory: Logistic | None = None

    def fullest(self, features: Mapping[str, float]) -> Logistic:
        """What reads the risk of an answer off: the model for all that is there."""
        return self.whole if self.whole.knows(features) else self.words

    def save(self, path: Path) -> None:
        """Write it down for `GroundedAnswerer(calibration=...)`."""
        path.write_text(self.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")


def fit(
    rows: Sequence[Mapping[str, float]], wrong: Sequence[bool], names: Sequence[str], raises: Collection[str] = ()
) -> Logistic:
    """Fit by Newton's method, with a penalty on the squared weights of the standardised features.

    A feature that seems to speak the other way than it can is chance, and its weight 0: that holds on other sets.

    Args:
        rows: The features of each answer.
        wrong: Whether it is wrong.
        names: The features to use.
        raises: Those that can only raise the risk; the others can only lower it.

    Raises:
        InvalidParameterError: If all answers are right, or all wrong.
    """
    if len(set(wrong)) < 2:
        raise InvalidParameterError("calibration needs answers that are right and answers that are wrong")
    used = list(names)
    while True:
        weights, intercept = _newton(np.array([[row[name] for name in used] for row in rows]), np.array(wrong, float))
        chance = [name for name, weight in zip(used, weights, strict=True) if (weight > 0) != (name in raises)]
        if not chance:
            break
        used = [name for name in used if name not in chance]
    found = dict.fromkeys(names, 0.0) | {
        name: round(float(weight), 5) for name, weight in zip(used, weights, strict=True)
    }
    return Logistic(weights=found, intercept=round(intercept, 5), rows=len(rows))


def _newton(table: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """The weights of the columns, and the intercept. `table` has shape (rows, features)."""
    table = table.reshape(len(target), -1)
    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale[scale == 0] = 1.0
    design = np.hstack([(table - mean) / scale, np.ones((len(table), 1))])
    penalty = np.diag([_PENALTY] * table.shape[1] + [0.0])
    weights = np.zeros(table.shape[1] + 1)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-(design @ weights)))
        slope = design.T @ (target - chance) - penalty @ weights
        bend = (design * (chance * (1 - chance) + 1e-9)[:, None]).T @ design + penalty
        step = np.linalg.solve(bend, slope)
        weights += step
        if np.abs(step).max() < 1e-9:
            break
    per_unit = weights[:-1] / scale
    return per_unit, float(weights[-1] - per_unit @ mean)


def check_limit(name: str, limit: float | str | None) -> None:
    """Refuse a limit of risk that is neither a chance nor "calibrated" or None.

    Raises:
        InvalidParameterError: With the name and what may be given.
    """
    if limit not in ("calibrated", None) and not (isinstance(limit, float | int) and 0 <= limit <= 1):
        raise InvalidParameterError(f'{name}={limit!r}: give a chance from 0 to 1, "calibrated" or None')


def calibration_of(model: Any) -> Calibration:
    """What comes with the package for a model: by the size in its name or in its config, else that of the 1.5B."""
    return _shipped("0.5b" if _is_small(str(getattr(model, "model", ""))) else "1.5b")


def read_calibration(path: str | Path) -> Calibration:
    """A calibration that `python -m langchain_qwen.grounding calibrate` wrote.

    Raises:
        InvalidParameterError: The file is none.
    """
    try:
        return Calibration.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InvalidParameterError(
            f"calibration={str(path)!r} is no calibration ({error}); make one with "
            "`python -m langchain_qwen.grounding calibrate`"
        ) from error


@cache
def _shipped(size: str) -> Calibration:
    file = resources.files("langchain_qwen.grounding").joinpath(f"risk-{size}.json")
    return Calibration.model_validate_json(file.read_text(encoding="utf-8"))


def _is_small(model: str) -> bool:
    config = Path(model).expanduser() / "config.json"
    if config.is_file():
        size = json.loads(config.read_text(encoding="utf-8")).get("hidden_size")
        return isinstance(size, int) and size < _SMALL_MODEL
    billions = re.search(r"(\d+(?:\.\d+)?)b\b", model.lower())
    return billions is not None and float(billions.group(1)) < 1
