"""LangChain's own tests of what a chat model must do, through a real server."""

from __future__ import annotations

import pytest

from tests.integration_tests import test_standard
from tests.vllm.conftest import MODEL, SERVED


class TestChatQwenAtServer(test_standard.TestChatQwen):
    @pytest.fixture(autouse=True)
    def _server(self, base_url):
        type(self)._base_url = base_url

    @property
    def chat_model_params(self):
        return {
            "base_url": self._base_url,
            "model": SERVED,
            "tokenizer": MODEL,
            "temperature": 0,
            "repetition_penalty": 1.1,
            "max_tokens": 200,
        }

    @property
    def supports_model_override(self):
        return False  # the server has one
