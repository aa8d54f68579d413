"""`langchain-qwen ask`."""

from __future__ import annotations

import sys
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_qwen.cli.models import make_model
from langchain_qwen.errors import InvalidMessagesError


def run(question: str | None, system: str | None, **settings: Any) -> None:
    """Print the answer as it is generated."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    prompt = "\n\n".join(part for part in (piped.strip(), question) if part)
    if not prompt:
        raise InvalidMessagesError('there is no question: langchain-qwen ask "..." (a pipe is read too)')
    messages: list[BaseMessage] = [SystemMessage(system)] if system else []
    with make_model(**settings) as model:
        for chunk in model.stream([*messages, HumanMessage(prompt)]):
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
    sys.stdout.write("\n")
