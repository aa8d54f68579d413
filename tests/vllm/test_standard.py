"""LangChain's own tests of what a chat model must do, through a real server."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_qwen import ChatQwen
from tests.vllm.conftest import MODEL, SERVED


class TestChatQwenAtServer(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _server(self, base_url):
        type(self)._base_url = base_url

    @property
    def chat_model_class(self):
        return ChatQwen

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
    def supports_json_mode(self):
        return True

    @property
    def has_tool_choice(self):
        return True

    @property
    def returns_usage_metadata(self):
        return True

    @property
    def supported_usage_metadata_details(self):
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        model = ChatQwen(**self.chat_model_params)
        # vLLM's blocks on a CPU are of 128 tokens.
        question = "Which of these is a colour: " + ", ".join(f"word{i}" for i in range(80)) + ", red?"
        model.invoke(question, max_tokens=2)
        if not stream:
            return model.invoke(question, max_tokens=2)
        chunks = list(model.stream(question, max_tokens=2))
        return sum(chunks[1:], chunks[0])
