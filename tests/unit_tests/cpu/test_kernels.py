"""Every table of kernels computes the same, and one can be chosen by name."""

from __future__ import annotations

import pytest

from langchain_qwen.engine.runners.cpu.kernels import VARIABLE, choose, tables
from langchain_qwen.errors import ConfigurationError


def test_the_best_is_first_and_the_portable_one_always_there(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    names = [table.name for table in tables()]
    assert len(set(names)) == len(names)
    assert names[-1] == "portable"
    assert tables()[-1].runs
    assert choose() == next(table.name for table in tables() if table.runs and table.proven)


def test_one_is_chosen_by_name(monkeypatch):
    monkeypatch.setenv(VARIABLE, "portable")
    assert choose() == "portable"
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ConfigurationError, match=r"LANGCHAIN_QWEN_KERNELS=fast: there are no .*'fast'.* portable"):
        choose()
    assert choose("portable") == "portable"
