"""As many examples as the window holds, counted exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage, SystemMessage

from langchain_qwen.capabilities import LocalModel
from langchain_qwen.output.plan import PLAN_ARGUMENTS, plan_output
from langchain_qwen.personas.composing import compose
from langchain_qwen.personas.spec import PersonaSpec

_ANSWER_TOKENS = 1024  # kept free where no max_tokens says how many


def messages_that_fit(
    persona: PersonaSpec, value: Any, model: LocalModel | None, arguments: Mapping[str, Any]
) -> list[BaseMessage]:
    """The prompt with the most examples that leave room for the answer; the last ones are left out first.

    Args:
        persona: Who answers.
        value: The input of the call.
        model: Who counts; None shows all examples.
        arguments: Those of the call, bound ones included: tools and schemas take room.
    """
    messages = compose(persona, value)
    if not persona.examples or model is None:
        return messages
    plan = plan_output(**{name: arguments[name] for name in PLAN_ARGUMENTS if name in arguments})
    instruction = [SystemMessage(plan.last.instruction)] if plan.last.instruction else []
    window, prompter = model.context_window, model.prompter
    room = window - (model.max_tokens or min(_ANSWER_TOKENS, window // 4))
    for examples in range(len(persona.examples), -1, -1):
        messages = compose(persona, value, examples)
        if prompter.count([*messages, *instruction], plan.tools) <= room:
            break
    return messages
