"""What LangChain is told about a model: its profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from langchain_core.language_models.model_profile import ModelProfile

from langchain_qwen.checkpoints.gguf_file import inspect
from langchain_qwen.parameters import MAX_ANSWER_TOKENS

DEFAULT_WINDOW = 32768


def profile_of(model: str) -> ModelProfile:
    """What a model can do. The window of a local folder or file is read from it; a hub is not asked for it."""
    window, path = DEFAULT_WINDOW, Path(model).expanduser()
    if (path / "config.json").is_file():
        text = (path / "config.json").read_text(encoding="utf-8")
        window = json.loads(text).get("max_position_embeddings", window)
    elif path.suffix == ".gguf" and path.is_file():
        window = inspect(path).metadata.get("qwen2.context_length", window)
    profile: dict[str, Any] = {
        "name": model,
        "open_weights": True,
        "max_input_tokens": window,
        "max_output_tokens": min(MAX_ANSWER_TOKENS, window),
        "text_inputs": True,
        "text_outputs": True,
        "image_inputs": False,
        "audio_inputs": False,
        "video_inputs": False,
        "reasoning_output": False,
        "tool_calling": True,
        "tool_choice": True,
        "tool_call_streaming": True,
        "mid_conversation_system_messages": True,
        "structured_output": True,
        "temperature": True,
    }
    # langchain-core warns of fields that it does not know yet.
    return cast("ModelProfile", {k: v for k, v in profile.items() if k in ModelProfile.__annotations__})
