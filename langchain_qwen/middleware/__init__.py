"""Middleware for the agents of `langchain.agents`; needs the extra `[agents]`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_qwen.middleware.grounding import CutoffMiddleware, GroundingMiddleware
    from langchain_qwen.middleware.history import CompactHistoryMiddleware, HistoryMiddleware
    from langchain_qwen.middleware.loops import LoopGuard, loop_in
    from langchain_qwen.middleware.personas import PersonaMiddleware
    from langchain_qwen.middleware.safety import SafetyMiddleware

__all__ = [
    "CompactHistoryMiddleware",
    "CutoffMiddleware",
    "GroundingMiddleware",
    "HistoryMiddleware",
    "LoopGuard",
    "PersonaMiddleware",
    "SafetyMiddleware",
    "loop_in",
]

_HOMES = {
    "CompactHistoryMiddleware": "history",
    "CutoffMiddleware": "grounding",
    "GroundingMiddleware": "grounding",
    "HistoryMiddleware": "history",
    "LoopGuard": "loops",
    "PersonaMiddleware": "personas",
    "SafetyMiddleware": "safety",
    "loop_in": "loops",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
