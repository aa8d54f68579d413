"""The command `langchain-qwen`.

Nothing here imports torch or transformers before a command needs them: `--help` has to come at once.
"""

from __future__ import annotations

from langchain_qwen.cli.app import main

__all__ = ["main"]
