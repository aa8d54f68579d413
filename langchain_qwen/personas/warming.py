"""Computing what all prompts of a persona begin with, before anyone asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

if TYPE_CHECKING:
    from langchain_qwen.personas.persona import Persona


def warm(persona: Persona, model: Runnable[Any, AIMessage], variables: dict[str, str]) -> int:
    """See `Persona.warm`."""
    # One character of a question that no one asks; what comes before it is what all prompts share.
    prompt = persona.replace(language=None).messages({"input": ".", **variables})
    model.invoke(prompt, max_tokens=1)
    usage = model.invoke(prompt, max_tokens=1).usage_metadata
    return usage["input_token_details"].get("cache_read", 0) if usage else 0
