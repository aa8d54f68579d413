"""`langchain-qwen doctor`: how a model would run here, what would be slow, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import asdict

from langchain_qwen.cli.doctor.advice import advise
from langchain_qwen.cli.doctor.render import render
from langchain_qwen.cli.doctor.report import examine
from langchain_qwen.cli.terminal import show, waiting


def doctor(model: str, *, as_json: bool) -> bool:
    """Print the report.

    Args:
        model: Whose use to judge.
        as_json: For machines rather than people.

    Returns:
        Whether the model can be used.
    """
    with waiting("Looking around"):
        report = examine(model)
    findings = advise(report)
    usable = not any(finding.level == "problem" for finding in findings)
    if as_json:
        content = {**asdict(report), "findings": [asdict(finding) for finding in findings], "usable": usable}
        show(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        render(report, findings)
    return usable
