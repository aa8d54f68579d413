"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import make_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Qwen2 checkpoint."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny-qwen2")
