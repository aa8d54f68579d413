"""LangChain's own tests of what a chat model must do, on a real checkpoint."""

from __future__ import annotations

from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_qwen import ChatQwen
from tests.integration_tests.conftest import MODEL, PRECISION


class TestChatQwen(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatQwen

    @property
    def chat_model_params(self):
        # Greedy without the penalty, the smallest model repeats itself in a free text until `max_tokens`.
        return {
            "model": MODEL,
            "precision": PRECISION,
            "temperature": 0,
            "repetition_penalty": 1.1,
            "max_tokens": 300,
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
    def supports_model_override(self):
        return True

    @property
    def model_override_value(self):
        # The path of the same weights is another name for them, so that the tests load one model only.
        from langchain_qwen.checkpoints import resolve
        from langchain_qwen.checkpoints.pulling import in_safetensors

        return str(in_safetensors(resolve(MODEL), PRECISION).path)

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
