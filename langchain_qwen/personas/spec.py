"""What a persona is: texts, rules and examples, as data that everything else here reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas.formats import Form
from langchain_qwen.personas.languages import AUTO, language_of

# {name} stands for a variable; {{name}} is the text {name}. Other braces, as in JSON or code, are text.
_PLACE = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


class Example(BaseModel):
    """One exchange that shows how to answer; it goes to the model as real turns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field(min_length=1)
    assistant: str = Field(min_length=1)


class PersonaSpec(BaseModel):
    """The fields of `Persona`, immutable, and the text of its system message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """What it is known as; not part of the prompt."""

    description: str = ""
    """One line for people who choose; not part of the prompt."""

    instructions: str = Field(min_length=1)
    """Who the model is and what it does. `{variable}` is filled in."""

    tone: str | None = None
    """How it sounds, for instance "friendly and brief"."""

    audience: str | None = None
    """Whom it writes for, for instance "children of ten"."""

    refusals: tuple[str, ...] = ()
    """What it declines to do, for instance "give medical advice"."""

    output: Form | None = None
    """A form that the answers keep to."""

    examples: tuple[Example, ...] = ()
    """Exchanges that show how to answer, the most important first."""

    language: str | None = AUTO
    """"auto": the language the user writes in, or asks for. A code or name: that one. None: no rule."""

    retry_language: bool = False
    """Ask once more when an answer is in another language than it should be."""

    variables: dict[str, str | None] = Field(default_factory=dict)
    """Variables of the instructions with their defaults; None for those that must be given."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise PersonaError(_readable(error, values.get("name"))) from error

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str | None) -> str | None:
        return language if language in (None, AUTO) else language_of(language).code

    @model_validator(mode="after")
    def _declares_its_variables(self) -> Self:
        texts = (self.instructions, self.tone or "", self.audience or "", *self.refusals)
        used = {match[2] for text in texts for match in _PLACE.finditer(text) if match[2]}
        if missing := sorted(used - self.variables.keys()):
            raise ValueError(
                f"{{{missing[0]}}} is no declared variable; declare it (variables: {{{missing[0]}: default}}), "
                f"or write {{{{{missing[0]}}}}} for the text in single braces"
            )
        if unused := sorted(self.variables.keys() - used):
            raise ValueError(f"the variable {unused[0]!r} is not used in any text; remove it or write {{{unused[0]}}}")
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with other fields; `variables` are added to those there are.

        Raises:
            PersonaError: For fields or values that do not exist.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if "variables" in changes:
            changes["variables"] = {**self.variables, **changes["variables"]}
        return type(self)(**{**values, **changes})

    def partial(self, **values: str) -> Self:
        """A copy in which these variables are given."""
        self._check_variables(values)
        return self.replace(variables=values)

    def system_text(self, **variables: str) -> str:
        """The text of the system message.

        Raises:
            PersonaError: For variables that do not exist or have no value.
        """
        self._check_variables(variables)
        values = {**self.variables, **variables}
        if missing := [name for name, value in values.items() if value is None]:
            raise PersonaError(
                f"persona {self.name!r} needs a value for {', '.join(missing)}: pass a dict with "
                f"'input' and {missing[0]!r}, or use persona.partial({missing[0]}=...)"
            )
        parts = [self.instructions.strip()]
        if self.tone:
            parts.append(f"Tone: {self.tone}.")
        if self.audience:
            parts.append(f"You write for {self.audience}.")
        if self.refusals:
            parts.append("Politely decline to:\n" + "\n".join(f"- {refusal}" for refusal in self.refusals))
        filled = [_PLACE.sub(lambda m: f"{{{m[1]}}}" if m[1] else str(values[m[2]]), part) for part in parts]
        if self.output is not None:
            filled.append(self.output.instruction())
        return "\n\n".join(filled)

    def _check_variables(self, given: Mapping[str, str]) -> None:
        if unknown := sorted(given.keys() - self.variables.keys()):
            known = ", ".join(self.variables) or "none"
            raise PersonaError(f"persona {self.name!r} has no variable {unknown[0]!r}; it has: {known}")


def _readable(error: ValidationError, name: Any) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        place = ".".join(str(part) for part in detail["loc"])
        lines.append(": ".join(part for part in (place, detail["msg"].removeprefix("Value error, ")) if part))
    return f"persona {name!r}: " + "; ".join(lines)
