"""Facts of a text as objects."""

from __future__ import annotations

from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from langchain_qwen.personas.persona import builtin

T = TypeVar("T", bound=BaseModel)


def extract(model: BaseChatModel, schema: type[T]) -> Runnable[str, T]:
    """Read an object of a pydantic class out of a text.

    Args:
        model: A chat model with structured output.
        schema: The class; descriptions of its fields say what to look for, optional fields may stay empty.
    """
    persona = builtin("extractor").replace(output=None, examples=())
    chain: Any = persona | model.with_structured_output(schema)
    return chain.with_config(run_name="extract")  # type: ignore[no-any-return]
