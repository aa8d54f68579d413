"""A persona: who the model is, how it answers, and in which language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableSerializable
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas.composing import compose, conversation_of
from langchain_qwen.personas.formats import Form
from langchain_qwen.personas.languages import AUTO, language_of

if TYPE_CHECKING:
    from langchain_qwen.chat_models import ChatQwen
    from langchain_qwen.personas.chain import PersonaChain

PersonaInput = str | PromptValue | Sequence[Any] | Mapping[str, Any]

# {name} stands for a variable; {{name}} is the text {name}. Other braces, as in JSON or code, are text.
_PLACE = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


class Example(BaseModel):
    """One exchange that shows how to answer; it goes to the model as real turns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field(min_length=1)
    assistant: str = Field(min_length=1)


class Persona(RunnableSerializable[PersonaInput, PromptValue]):
    """Who the model is, how it answers, and in which language; immutable.

    ```python
    pirate = Persona(name="pirate", instructions="You are a pirate of {sea}.", variables={"sea": "the Caribbean"})
    chat = pirate | ChatQwen(model="coder-1.5b")
    chat.invoke("Who are you?").text
    ```

    A persona takes a string, messages, a prompt value, or a dict with `input` or `messages` and values for variables;
    it gives the prompt. Piped into a chat model (`persona | model`) it becomes a `PersonaChain`, which also enforces
    the output form and looks after the language. Write `prompt | (persona | model)` where something comes before it:
    without the brackets, LangChain joins the three so that the form is asked for only.

    In one call, `config={"configurable": {"persona": ...}}` takes its place (a `Persona`, or the name of a built-in
    one) or changes some of its fields (a dict).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(min_length=1)
    """What it is known as; not part of the prompt."""

    description: str = ""
    """One line for people who choose; not part of the prompt."""

    instructions: str = Field(min_length=1)
    """Who the model is and what it does. `{variable}` is filled in."""

    tone: str | None = None
    """How it sounds, for instance "friendly and brief"."""

    audience: str | None = None
    """Whom it writes for."""

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

    # -- made from others -----------------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Persona:
        """A copy with other fields; `variables` are added to those there are.

        Raises:
            PersonaError: For fields or values that do not exist.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if "variables" in changes:
            changes["variables"] = {**self.variables, **changes["variables"]}
        return type(self)(**{**values, **changes})

    def partial(self, **values: str) -> Persona:
        """A copy in which these variables are given."""
        self._check_variables(values)
        return self.replace(variables=values)

    @classmethod
    def from_file(cls, path: str | Path) -> Persona:
        """Read a persona from YAML, TOML or JSON; see `langchain_qwen.personas.load_persona`."""
        from langchain_qwen.personas.files import load_persona

        return load_persona(path)

    # -- the prompt -----------------------------------------------------------------------------------------------

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

    def messages(self, value: PersonaInput, *, examples: int | None = None) -> list[BaseMessage]:
        """The conversation with this persona in front.

        The rule: the persona's system message comes first. A system message that the conversation begins with is added
        to its text; one of another persona is replaced, and so are that one's examples. The examples follow as turns,
        then the conversation. Where a language has to be asked for, the user's latest message gets one more sentence;
        thus the beginning of the prompt stays the same and comes from the engine's cache.

        Args:
            value: A string, messages, a prompt value, or a dict with `input` or `messages` and values for variables.
            examples: How many of the examples to show; None for all.
        """
        conversation, variables = conversation_of(value)
        return compose(self, conversation, self.system_text(**variables), self.examples[:examples])

    def effective(self, config: RunnableConfig | None) -> Persona:
        """The persona for one call: this one, or what `config` puts in its place.

        Raises:
            PersonaError: For something that is no persona, nor fields of one.
        """
        other = ((config or {}).get("configurable") or {}).get("persona")
        match other:
            case None:
                return self
            case Persona():
                return other
            case str():
                from langchain_qwen.personas.library import builtin

                return builtin(other)
            case Mapping():
                return self.replace(**other)
        raise PersonaError(
            "config['configurable']['persona'] must be a Persona, the name of a built-in one, or a dict of fields, "
            f"not {type(other).__name__}"
        )

    # -- a Runnable -----------------------------------------------------------------------------------------------

    def invoke(self, input: PersonaInput, config: RunnableConfig | None = None, **_: Any) -> PromptValue:  # noqa: A002
        """The prompt for an input."""
        persona = self.effective(config)
        return self._call_with_config(
            lambda value: ChatPromptValue(messages=persona.messages(value)), input, config, run_type="prompt"
        )

    def __or__(self, other: Any) -> Any:
        if is_chat_model(other):
            from langchain_qwen.personas.chain import PersonaChain

            return PersonaChain(persona=self, model=other)
        return super().__or__(other)

    def pipe(self, *others: Any, name: str | None = None) -> Any:
        """As `|`, one after the other."""
        if others and is_chat_model(others[0]):
            chain = self.with_model(others[0])
            return chain.pipe(*others[1:], name=name) if len(others) > 1 else chain
        return super().pipe(*others, name=name)

    def with_model(self, model: Runnable[Any, Any]) -> PersonaChain:
        """The same as `persona | model`, typed."""
        from langchain_qwen.personas.chain import PersonaChain

        return PersonaChain(persona=self, model=model)

    def warm(self, model: ChatQwen, **variables: str) -> int:
        """Compute the beginning that all prompts of this persona share, so that the first answer starts sooner.

        It is also kept on the disk, from where later processes read it; see `ChatQwen.warm`.

        Returns:
            How many tokens of it are ready.
        """
        beginning = self.replace(language=None).messages({"messages": [], **variables})
        return model.warm(beginning)

    def _check_variables(self, given: Mapping[str, str]) -> None:
        if unknown := sorted(given.keys() - self.variables.keys()):
            known = ", ".join(self.variables) or "none"
            raise PersonaError(f"persona {self.name!r} has no variable {unknown[0]!r}; it has: {known}")


def is_chat_model(runnable: Any) -> bool:
    """Whether it is a chat model, bare or with arguments bound."""
    while isinstance(runnable, RunnableBinding):
        runnable = runnable.bound
    return isinstance(runnable, BaseChatModel)


def _readable(error: ValidationError, name: Any) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        place = ".".join(str(part) for part in detail["loc"])
        lines.append(": ".join(part for part in (place, detail["msg"].removeprefix("Value error, ")) if part))
    return f"persona {name!r}: " + "; ".join(lines)
