"""A text with its findings, for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from langchain_qwen.safety.parser import SafetyParser

_COLOURS = {"low": "#e8f0fe", "medium": "#fff3c4", "high": "#ffd8a8", "critical": "#ffc9c9"}


@dataclass(frozen=True, slots=True)
class Findings:
    """Shown by notebooks as HTML, by `print` as text."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __str__(self) -> str:
        return self.text


def show_findings(text: str, parser: SafetyParser) -> Findings:
    """The original text with what a policy finds marked, and what would leave. Shows private text: for development."""
    clean, events = parser.scan(text)
    html, at = [], 0
    for event in sorted(events, key=lambda e: (e.start, e.end)):
        if event.start < at:
            continue
        label = f"{event.rule}: {event.action}"
        html.append(escape(text[at : event.start]))
        html.append(
            f'<mark style="background:{_COLOURS[event.severity]}" title="{escape(event.category)}">'
            f"{escape(text[event.start : event.end])} <small>[{escape(label)}]</small></mark>"
        )
        at = event.end
    html.append(escape(text[at:]))
    lines = [f"{e.start}-{e.end} {e.rule} ({e.category}, {e.severity}): {e.action}" for e in events]
    return Findings(
        f"<div style='white-space:pre-wrap'>{''.join(html)}<hr>{escape(clean)}</div>", "\n".join([*lines, clean])
    )
