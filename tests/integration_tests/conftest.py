"""One model object stays alive, so that the tests share its weights and its cache."""

from __future__ import annotations

import os

import pytest

from langchain_qwen import ChatQwen

# A larger one can be named to see how it does.
MODEL = os.environ.get("LANGCHAIN_QWEN_TEST_MODEL", "coder-0.5b")
# The int8 weights answer like the unrounded ones (benchmarks/RESULTS.md) at twice their speed.
PRECISION = os.environ.get("LANGCHAIN_QWEN_TEST_PRECISION", "int8")


@pytest.fixture(scope="session", autouse=True)
def model():
    with ChatQwen(model=MODEL, precision=PRECISION, temperature=0, max_tokens=300) as model:
        model.load()
        yield model
