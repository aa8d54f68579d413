"""The terminal of the README, from a real run: `python docs/pictures/terminal.py` writes docs/pictures/terminal.svg.

Needs tmux, and the model coder-1.5b.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
WIDTH, HEIGHT = 92, 30
COMMAND = "langchain-qwen chat --model coder-1.5b --temperature 0"
TYPED = (
    "In Markdown, with one short list and five lines of Python: what is a generator?",
    "/stats",
)
SOCKET = "langchain-qwen-picture"


def tmux(*arguments: str) -> str:
    """Run a tmux command on a server of our own."""
    return subprocess.run(["tmux", "-L", SOCKET, *arguments], check=True, capture_output=True, text=True).stdout


def screen(*, colors: bool) -> str:
    """What the terminal shows."""
    return tmux("capture-pane", "-p", *(["-e"] if colors else []), "-t", "chat")


def wait_for_prompts(count: int, seconds: float = 600) -> None:
    """Until so many prompts are shown, the last one empty."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lines = screen(colors=False).rstrip().splitlines()
        if lines and lines[-1].strip() == ">>>" and sum(line.startswith(">>>") for line in lines) >= count:
            return
        time.sleep(0.5)
    raise TimeoutError(screen(colors=False))


def record() -> str:
    """Type the questions, and give the last screen with its colors."""
    program = f"{Path(sys.executable).parent}/{COMMAND}"
    tmux("new-session", "-d", "-s", "chat", "-x", str(WIDTH), "-y", str(HEIGHT), program)
    try:
        for number, line in enumerate(TYPED, start=1):
            wait_for_prompts(number)
            tmux("send-keys", "-t", "chat", "-l", line)
            tmux("send-keys", "-t", "chat", "Enter")
        wait_for_prompts(len(TYPED) + 1)
        return screen(colors=True)
    finally:
        tmux("kill-server")


def picture(shown: str) -> str:
    """The screen as SVG, under the command that was typed. Fonts are the reader's own: nothing is fetched."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {COMMAND}", style="bold"))
    console.print(Text.from_ansi(re.sub(r"\n*>>>\s*$", "", shown.rstrip())))
    svg = console.export_svg(title="langchain-qwen", theme=MONOKAI)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    (HERE / "terminal.svg").write_text(picture(record()), encoding="utf-8")
