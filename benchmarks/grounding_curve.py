"""How well risk tells right answers from wrong ones: risk against coverage, and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row
from langchain_qwen.grounding.calibrating import area


def areas(rows: Sequence[Row]) -> dict[str, Any]:
    """The chance that a wrong answer has the higher risk: by the package, and by the plain token probability."""
    return {
        "risk_auc": _rounded(_area(rows, "risk")),
        "plain_token_probability_auc": _rounded(_area(rows, "plain_sure")),
    }


def curve(rows: Sequence[Row], risk: str) -> list[tuple[float, float]]:
    """Points of coverage (the share that is answered, least risky first) and risk (the share of it that is wrong)."""
    points, wrong = [], 0
    for number, row in enumerate(sorted(rows, key=lambda row: _risk(row, risk)), 1):
        wrong += not row["plain_right"]
        points.append((number / len(rows), wrong / number))
    return points


def draw(rows: Sequence[Row], path: Path) -> None:
    """The curves of both as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, label in (("risk", "risk of GroundedAnswerer"), ("plain_sure", "mean token probability, plain")):
        points = curve(rows, name)
        auc = _area(rows, name)
        axes.plot(*zip(*points, strict=True), label=f"{label} (AUC {auc:.2f})")
    axes.set(xlabel="share of questions answered", ylabel="share of answers that are wrong", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{len(rows)} rows of xquad and rag_robustness")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _area(rows: Sequence[Row], risk: str) -> float:
    right = [_risk(row, risk) for row in rows if row["plain_right"]]
    return area(right, [_risk(row, risk) for row in rows if not row["plain_right"]])


def _risk(row: Row, name: str) -> float:
    """What the package says, 1 where no answer was asked for; or the less the surer the model was."""
    if name == "plain_sure":
        return -float(row["plain_sure"])
    return 1.0 if row["risk"] is None else float(row["risk"])


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 3)
