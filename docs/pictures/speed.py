"""The chart of the README, from saved results: `python docs/pictures/speed.py` writes docs/pictures/speed.svg."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, ROW, GROUP, LABELS, BARS = 780, 28, 44, 230, 420
OURS = "langchain-qwen"
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #24292f }
  .note { font-size: 12px; fill: #57606a } .title { font-weight: bold }
  .bar { fill: #8c959f } .ours { fill: #6f42c1 }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } .ours { fill: #a371f7 } }
"""


def chart(results: dict) -> str:
    """For each task, the tokens a second of each engine as bars."""
    parts: list[str] = []
    y = 0
    for group in results["groups"]:
        most = max(row["tokens_per_second"] for row in group["rows"])
        y += GROUP
        parts.append(f'<text class="title" x="0" y="{y - 14}">{escape(group["title"])}</text>')
        for row in group["rows"]:
            width = BARS * row["tokens_per_second"] / most
            kind = "bar ours" if row["engine"] == OURS else "bar"
            parts += [
                f'<text x="{LABELS - 10}" y="{y + 15}" text-anchor="end">{escape(row["engine"])}</text>',
                f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{width:.1f}" height="20" rx="3"/>',
                f'<text x="{LABELS + width + 8:.1f}" y="{y + 15}">{row["tokens_per_second"]:.0f}</text>',
            ]
            y += ROW
    height = y + 34
    parts.append(f'<text class="note" x="0" y="{height - 8}">{escape(results["note"])}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    saved = json.loads((HERE.parents[1] / "benchmarks" / "speed.json").read_text(encoding="utf-8"))
    (HERE / "speed.svg").write_text(chart(saved), encoding="utf-8")
