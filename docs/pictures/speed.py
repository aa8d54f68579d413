"""The chart of the README, from saved results: `python docs/pictures/speed.py` writes docs/pictures/speed.svg."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, ROW, TOP, LABELS, BARS = 760, 34, 44, 250, 330
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #24292f }
  .note { font-size: 12px; fill: #57606a }
  .bar { fill: #8c959f } .ours { fill: #6f42c1 }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } .ours { fill: #a371f7 } }
"""


def chart(results: dict) -> str:
    """Bars of the speed beside llama.cpp's; the tokens a second that were measured stand behind them."""
    rows = results["decode"]
    most = max(row["beside_llama_cpp"] for row in rows)
    height = TOP + ROW * len(rows) + 30
    parts = ['<text x="0" y="20" font-weight="bold">Writing speed beside llama.cpp Q4_K_M on the same machine</text>']
    for number, row in enumerate(rows):
        y, width = TOP + ROW * number, BARS * row["beside_llama_cpp"] / most
        kind = "bar ours" if number == 0 else "bar"
        parts += [
            f'<text x="{LABELS - 10}" y="{y + 16}" text-anchor="end">{escape(row["engine"])}</text>',
            f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{width:.1f}" height="22" rx="3"/>',
            f'<text x="{LABELS + width + 8:.1f}" y="{y + 16}">{row["beside_llama_cpp"]:.2f} x '
            f'<tspan class="note">({row["tokens_per_second"]:g} tokens/s)</tspan></text>',
        ]
    machines = "; ".join(f"{name}: {who}" for name, who in _machines(rows).items())
    note = f"Qwen2.5-Coder-1.5B, one request, two cores. {escape(machines)}."
    parts.append(f'<text class="note" x="0" y="{height - 8}">{note}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _machines(rows: list[dict]) -> dict[str, str]:
    """Which rows each machine stands for."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows, start=1):
        found.setdefault(row["machine"], []).append(number)
    return {machine: f"rows {numbers[0]} to {numbers[-1]}" for machine, numbers in found.items()}


if __name__ == "__main__":
    saved = json.loads((HERE.parents[1] / "benchmarks" / "speed.json").read_text(encoding="utf-8"))
    (HERE / "speed.svg").write_text(chart(saved), encoding="utf-8")
