"""`init_chat_model("qwen:coder-1.5b")`, for those who ask for it."""

from __future__ import annotations

from langchain_qwen.errors import MissingDependencyError


def register_init_chat_model() -> None:
    """Teach `langchain.chat_models.init_chat_model` (and `create_agent`) the provider "qwen".

    LangChain has no entry points for providers, only a table of its own; this adds a line to it in this process. It is
    a call of its own, and not a side effect of the import, so that nobody's table changes unasked.

    Raises:
        MissingDependencyError: When `langchain` is not installed.
    """
    try:
        from langchain.chat_models import base
    except ImportError as error:
        raise MissingDependencyError('this needs langchain: pip install "langchain-qwen[agents]"') from error
    base._BUILTIN_PROVIDERS["qwen"] = ("langchain_qwen", "ChatQwen", base._call)
