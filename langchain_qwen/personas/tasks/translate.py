"""Translations."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable

from langchain_qwen.personas.checking import holds
from langchain_qwen.personas.composing import warn_if_weak
from langchain_qwen.personas.detection import detect
from langchain_qwen.personas.languages import language_of
from langchain_qwen.personas.persona import builtin
from langchain_qwen.personas.tasks.steps import Ask, Result, Steps, task


class Translation(Result):
    """A text in another language.

    Attributes:
        text: The translation.
        source: The code of the language of the original; None where it cannot be told.
        target: The code of the language asked for.
        held: Whether the translation is in that language, as far as can be told.
    """

    text: str
    source: str | None
    target: str
    held: bool


def translate(model: Runnable[Any, Any], to: str) -> Runnable[str, Translation]:
    """Translate a text; one that comes back in another language is asked for once more.

    Args:
        model: A chat model.
        to: The language, by code or name.

    Raises:
        PersonaError: For a language that is not known.
    """
    target = language_of(to)
    name = f"{target.english} ({target.native})" if target.english != target.native else target.english
    chain = builtin("translator").partial(target=name).with_model(model)

    def steps(text: str) -> Steps[Translation]:
        warn_if_weak(target)
        asked = HumanMessage(f"Translate this text into {name}:\n\n{text}")
        (answer,) = yield Ask(chain, [[asked]])
        if not holds(answer.text, target.code):
            (answer,) = yield Ask(chain, [[asked, answer, HumanMessage(target.answer)]])
        translated = answer.text.strip()
        held = holds(translated, target.code)
        return Translation(text=translated, source=detect(text).code, target=target.code, held=held)

    return task("translate", steps)
