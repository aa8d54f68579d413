"""Middleware for the agents of `langchain.agents`; needs the extra `[agents]`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_qwen.middleware.grounding import CutoffMiddleware, GroundingMiddleware
    from langchain_qwen.middleware.history import CompactHistoryMiddleware, HistoryMiddleware
    from langchain_qwen.middleware.personas import PersonaMiddleware
    from langchain_qwen.middleware.safety import SafetyMiddleware

__all__ = [
    "CompactHistoryMiddleware",
    "CutoffMiddleware",
    "GroundingMiddleware",
    "HistoryMiddleware",
    "PersonaMiddleware",
    "SafetyMiddleware",
]

_HOMES = {
    "CompactHistoryMiddleware": "history",
    "CutoffMiddleware": "grounding",
    "GroundingMiddleware": "grounding",
    "HistoryMiddleware": "history",
    "PersonaMiddleware": "personas",
    "SafetyMiddleware": "safety",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
