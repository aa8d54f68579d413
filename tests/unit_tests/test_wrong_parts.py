"""A part that is given another one than it works with says so when it is made, not in the middle of an answer."""

from __future__ import annotations

import pytest

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.middleware import (
    CompactHistoryMiddleware,
    CutoffMiddleware,
    HistoryMiddleware,
    LoopGuard,
    PersonaMiddleware,
    SafetyMiddleware,
)
from langchain_qwen.safety import InputGuard, SafetyParser


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (HistoryMiddleware, "HistoryTrimmer"),
        (CompactHistoryMiddleware, "HistoryTrimmer"),
        (PersonaMiddleware, "Persona"),
        (CutoffMiddleware, "CutoffGuard"),
        (SafetyMiddleware, "SafetyParser"),
        (InputGuard, "SafetyParser"),
    ],
)
def test_another_part_is_refused_by_name(part, wanted):
    with pytest.raises(InvalidParameterError, match=f"{part.__name__} takes a {wanted}, not one str"):
        part("strict")


def test_values_out_of_their_range():
    with pytest.raises(InvalidParameterError, match="on_block"):
        SafetyMiddleware(SafetyParser("permissive"), on_block="hide")
    with pytest.raises(InvalidParameterError, match="times=1"):
        LoopGuard(1)
