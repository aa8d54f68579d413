"""The notebooks that need a server run from top to bottom."""

from __future__ import annotations

import pytest

from tests.integration_tests.test_cookbook import AT_A_SERVER, run


@pytest.mark.parametrize("name", AT_A_SERVER)
def test_notebook(name, monkeypatch, base_url):
    monkeypatch.setenv("LANGCHAIN_QWEN_SERVER", base_url)
    run(name, monkeypatch)
