"""Fixtures that all tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.hypothesis_profiles import lengthen
from tests.tiny import make_tiny_checkpoint


def pytest_configure() -> None:
    """Let Ctrl-C reach the tests of it: a job that a shell runs in the background starts with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the profile `fuzz` run long."""
    lengthen(items)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Qwen2 checkpoint."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny-qwen2")
