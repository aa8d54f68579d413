"""Putting a persona in front of a conversation, and taking it off again.

Messages that a persona made carry its mark in `additional_kwargs`, which is never sent to the model. So a persona can
be put on twice without harm, and changed in the middle of a chat.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from langchain_qwen.capabilities import LocalModel
from langchain_qwen.errors import PersonaError
from langchain_qwen.inputs import followed_by, messages_of, variables_of
from langchain_qwen.output.plan import PLAN_ARGUMENTS, plan_output
from langchain_qwen.personas.detection import detect
from langchain_qwen.personas.files import builtin_spec
from langchain_qwen.personas.languages import AUTO, Language, WeakLanguageWarning, languages, wanted_language
from langchain_qwen.personas.spec import PersonaSpec

MARK = "persona"
_ANSWER_TOKENS = 1024  # kept free where no max_tokens says how many


def effective(persona: PersonaSpec, config: RunnableConfig | None) -> PersonaSpec:
    """The persona for one call: this one, or what `config` puts in its place.

    Raises:
        PersonaError: For something that is no persona, nor fields of one.
    """
    other = ((config or {}).get("configurable") or {}).get("persona")
    match other:
        case None:
            return persona
        case PersonaSpec():
            return other
        case str():
            return builtin_spec(other)
        case Mapping():
            return persona.replace(**other)
    raise PersonaError(
        "config['configurable']['persona'] must be a Persona, the name of a built-in one, or a dict of fields, "
        f"not {type(other).__name__}"
    )


def compose(persona: PersonaSpec, value: Any, examples: int | None = None) -> list[BaseMessage]:
    """See `Persona.messages`."""
    conversation = without_persona(messages_of(value))
    system_text = persona.system_text(**variables_of(value))
    own = ""
    if conversation and isinstance(conversation[0], SystemMessage):
        own = conversation[0].text
        conversation = conversation[1:]
    mark = {MARK: persona.name}
    text = "\n\n".join(part for part in (system_text, own) if part)
    messages: list[BaseMessage] = [SystemMessage(text, additional_kwargs={**mark, "own": own})]
    for example in persona.examples[:examples]:
        messages.append(HumanMessage(example.user, additional_kwargs=mark))
        messages.append(AIMessage(example.assistant, additional_kwargs=mark))
    messages += conversation
    language = answer_language(persona, conversation)
    if language is not None and _has_to_be_asked_for(persona, language, messages):
        _ask_for(language, messages, mark)
    return messages


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


def _ask_for(language: Language, messages: list[BaseMessage], mark: dict[str, str]) -> None:
    """Add the request to the user's latest message, where small models heed it most.

    What comes after that message, as results of tools do, would drown it: there it is said once more.
    """
    latest = max((place for place, message in enumerate(messages) if isinstance(message, HumanMessage)), default=None)
    if latest is not None:
        message = messages[latest]
        messages[latest] = message.model_copy(
            update={
                "content": followed_by(message.content, f"\n\n{language.answer}"),
                "additional_kwargs": {**message.additional_kwargs, **mark, "own": message.content},
            }
        )
    if latest != len(messages) - 1:
        messages.append(SystemMessage(language.answer, additional_kwargs=mark))


def without_persona(conversation: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation as it was before a persona was put on it."""
    messages: list[BaseMessage] = []
    for message in conversation:
        kwargs = message.additional_kwargs
        if MARK not in kwargs:
            messages.append(message)
        elif own := kwargs.get("own"):
            rest = {name: value for name, value in kwargs.items() if name not in (MARK, "own")}
            messages.append(message.model_copy(update={"content": own, "additional_kwargs": rest}))
    return messages


def answer_language(persona: PersonaSpec, conversation: Sequence[BaseMessage]) -> Language | None:
    """The language that the answer should be in; None where there is no rule or it cannot be told."""
    if persona.language is None:
        return None
    if persona.language == AUTO:
        return wanted_language(without_persona(conversation))
    return languages()[persona.language]


def warn_if_weak(language: Language | None) -> None:
    """Warn of a language that Qwen2.5's model card does not name."""
    if language is not None and not language.named:
        warnings.warn(
            f"Qwen2.5 is not strong in {language.english}: expect mistakes, and answers in other languages "
            "(retry_language=True helps)",
            WeakLanguageWarning,
            stacklevel=2,
        )


def _has_to_be_asked_for(persona: PersonaSpec, language: Language, messages: Sequence[BaseMessage]) -> bool:
    """Whether something in sight could lead the model to another language.

    Where all is in the language itself, one more instruction would only distract a small model.
    """
    if persona.language != AUTO:
        return True
    paragraphs = (part for message in messages for part in message.text.split("\n\n"))
    return any(detect(part, at_least=0.6).code not in (None, language.code) for part in paragraphs)
