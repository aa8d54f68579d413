"""Qwen2.5 on your own machine as a first-class LangChain chat model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from langchain_qwen._version import __version__

if TYPE_CHECKING:
    from langchain_qwen.chat_models import ChatQwen
    from langchain_qwen.init_chat_model import register_init_chat_model

__all__ = ["ChatQwen", "__version__", "register_init_chat_model"]

# Loaded at first use: `langchain-qwen --help` should not wait for torch.
_HOMES = {"ChatQwen": "chat_models", "register_init_chat_model": "init_chat_model"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
