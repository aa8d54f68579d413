"""A model that counts like the real ones, and one that answers what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_qwen import ChatQwen


@pytest.fixture(scope="session", autouse=True)
def key() -> Iterator[None]:
    """No test leaves a key in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGCHAIN_QWEN_KEY", "a key of the tests")
        yield


@pytest.fixture(scope="session")
def model(tiny_checkpoint: Path) -> ChatQwen:
    return ChatQwen(model=str(tiny_checkpoint))
