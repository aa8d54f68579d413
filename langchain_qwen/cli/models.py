"""The one place where the commands make a model."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from langchain_qwen.chat_models import ChatQwen


def make_model(**settings: Any) -> ChatQwen:
    """A model with its weights loaded; a spinner says so where somebody looks."""
    from langchain_qwen.checkpoints import resolve

    model = ChatQwen(**{name: value for name, value in settings.items() if value is not None})
    resolve(model.model)  # downloads and shows its own progress
    if sys.stderr.isatty():
        with Console(stderr=True).status("Loading the model"):
            model.load()
    else:
        model.load()
    return model
