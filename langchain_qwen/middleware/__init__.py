"""Middleware for the agents of `langchain.agents`; needs the extra `[agents]`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_qwen.middleware.personas import PersonaMiddleware

__all__ = ["PersonaMiddleware"]

_HOMES = {
    "PersonaMiddleware": "personas",
    from langchain_qwen.middleware.safety import SafetyMiddleware

__all__ = ["SafetyMiddleware"]

_HOMES = {
    "SafetyMiddleware": "safety",
    from langchain_qwen.middleware.grounding import CutoffMiddleware, GroundingMiddleware

__all__ = ["CutoffMiddleware", "GroundingMiddleware"]

_HOMES = {
    "CutoffMiddleware": "grounding",
    "GroundingMiddleware": "grounding",
    from langchain_qwen.middleware.history import CompactHistoryMiddleware, HistoryMiddleware

__all__ = ["CompactHistoryMiddleware", "HistoryMiddleware"]

_HOMES = {
    "CompactHistoryMiddleware": "history",
    "HistoryMiddleware": "history",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
