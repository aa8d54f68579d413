"""As many examples as the window holds, counted exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.runnables import Runnable

from langchain_qwen.chat_models import ChatQwen
from langchain_qwen.output.plan import PLAN_ARGUMENTS, plan_output

if TYPE_CHECKING:
    from langchain_qwen.personas.persona import Persona

_ANSWER_TOKENS = 1024  # kept free where no max_tokens says how many


def messages_that_fit(
    persona: Persona, value: Any, model: Runnable[Any, Any], arguments: Mapping[str, Any]
) -> list[BaseMessage]:
    """The prompt with the most examples that leave room for the answer; the last ones are left out first.

    Args:
        persona: Who answers.
        value: The input of the call.
        model: Who counts; without a `ChatQwen` all examples are shown.
        arguments: Those of the call, bound ones included: tools and schemas take room, and `max_tokens` asks for some.
    """
    messages = persona.messages(value)
    if not persona.examples or not isinstance(model, ChatQwen):
        return messages
    plan = plan_output(**{name: arguments[name] for name in PLAN_ARGUMENTS if name in arguments})
    instruction = [SystemMessage(plan.instruction)] if plan.instruction else []
    if arguments.get("model"):
        model = model.model_copy(update={"model": arguments["model"]})
    window = (model.profile or {})["max_input_tokens"]
    room = window - (arguments.get("max_tokens") or model.max_tokens or min(_ANSWER_TOKENS, window // 4))
    for examples in range(len(persona.examples), -1, -1):
        messages = persona.messages(value, examples=examples)
        if model.get_num_tokens_from_messages([*messages, *instruction], list(plan.tools)) <= room:
            break
    return messages
