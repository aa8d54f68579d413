"""A model that counts like the real ones, and one that answers what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from langchain_qwen import ChatQwen


@pytest.fixture(scope="session")
def model(tiny_checkpoint: Path) -> ChatQwen:
    return ChatQwen(model=str(tiny_checkpoint))
