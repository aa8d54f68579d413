"""Whether an answer is what its persona promises, and what to say when it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage

from langchain_qwen.errors import OutputFormatError, OutputTruncatedError
from langchain_qwen.personas.detection import detect
from langchain_qwen.personas.languages import Language
from langchain_qwen.personas.spec import PersonaSpec

_SURE = 0.6


@dataclass(frozen=True, slots=True)
class Checks:
    """What one answer has to keep to.

    Attributes:
        persona: Who answers.
        language: The language of the answer; None for any.
    """

    persona: PersonaSpec
    language: Language | None

    @property
    def looks_at_language(self) -> bool:
        """Whether an answer in another language is asked for again."""
        return self.persona.retry_language and self.language is not None

    def correction(self, answer: AIMessage) -> str | None:
        """What to say to get a better answer; None for a good one, and for a refusal of a safety policy."""
        if _ended_by_policy(answer):
            return None  # it would end the next one too
        form = self.persona.output
        if form is not None and (problem := self._broken_form(answer)):
            return f"That was not in the required form: {problem}. {form.instruction()}"
        if self.looks_at_language and self.language and not holds(answer.text, self.language.code):
            return self.language.answer
        return None

    def verdict(self, answer: AIMessage) -> dict[str, Any]:
        """What goes into the answer's `response_metadata`.

        Raises:
            OutputTruncatedError: When `max_tokens` broke the form.
            OutputFormatError: When the model did, or a safety policy.
        """
        name = self.persona.name
        if problem := self._broken_form(answer):
            if answer.response_metadata.get("finish_reason") == "length":
                raise OutputTruncatedError(
                    f"max_tokens ended the answer of persona {name!r} before its form was complete ({problem}); raise "
                    "max_tokens, or ask for less in the persona's output"
                )
            if _ended_by_policy(answer):
                raise OutputFormatError(
                    f"a safety policy ended the answer of persona {name!r}, so its form is broken: {problem}: "
                    f"{answer.text[:200]!r}"
                )
            raise OutputFormatError(f"the answer of persona {name!r} broke its form: {problem}: {answer.text[:200]!r}")
        verdict: dict[str, Any] = {"name": name}
        if self.language is not None:
            verdict["language"] = self.language.code
            verdict["language_held"] = holds(answer.text, self.language.code)
        return {"persona": verdict}

    def _broken_form(self, answer: AIMessage) -> str | None:
        if self.persona.output is None or answer.tool_calls:
            return None
        return self.persona.output.problem(answer.text)


def _ended_by_policy(answer: AIMessage) -> bool:
    return answer.response_metadata.get("finish_reason") == "content_filter"


def holds(text: str, code: str) -> bool:
    """Whether a text is in a language, as far as can be told: one that cannot be told counts as right."""
    return detect(text, at_least=_SURE).code in (None, code)
