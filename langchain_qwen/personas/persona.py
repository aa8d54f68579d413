"""A persona: who the model is, how it answers, and in which language."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict
from typing_extensions import Self

from langchain_qwen.capabilities import is_chat_model, require_local
from langchain_qwen.inputs import check_no_arguments
from langchain_qwen.personas.chain import PersonaChain, PersonaInput
from langchain_qwen.personas.composing import compose, effective
from langchain_qwen.personas.files import builtin_spec, builtin_specs, read_file, read_folder
from langchain_qwen.personas.spec import PersonaSpec


class Persona(PersonaSpec, RunnableSerializable[PersonaInput, PromptValue]):
    """Who the model is, how it answers, and in which language; immutable.

    ```python
    from langchain_qwen import ChatQwen
    from langchain_qwen.personas import Persona

    model = ChatQwen(model="coder-1.5b", temperature=0)
    pirate = Persona(
        name="pirate",
        instructions="You are a pirate of {sea}. Answer in one sentence.",
        variables={"sea": "the Caribbean"},
    )
    chat = pirate | model
    chat.invoke("Who are you?").text  # "I am a pirate of the Caribbean, known for my colorful attire and ..."
    for chunk in chat.stream("Who are you?"):
        print(chunk.text, end="")  # the same; `await chat.ainvoke(...)` and `chat.batch([...])` too
    (pirate.replace(language="fr") | model).invoke("Who are you?").text  # "Je suis un pirate de la Caraïbe."
    pirate | model.bind_tools([look_up])  # calls tools as the model does
    pirate | model.with_structured_output(Name)  # gives a Name
    ```

    A persona takes a string, messages, a prompt value, or a dict with `input` or `messages` and values for variables;
    it gives the prompt. Piped into a chat model (`persona | model`) it becomes a `PersonaChain`, which also enforces
    the output form and looks after the language. Write `prompt | (persona | model)` where something comes before it:
    without the brackets, LangChain joins the three so that the form is asked for only.

    In one call, `config={"configurable": {"persona": ...}}` takes its place (a `Persona`, or the name of a built-in
    one) or changes some of its fields (a dict).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def from_spec(cls, spec: PersonaSpec) -> Self:
        """The runnable of a spec that was read from a file."""
        return cls(**{name: getattr(spec, name) for name in PersonaSpec.model_fields})

    def messages(self, value: PersonaInput) -> list[BaseMessage]:
        """The conversation with this persona in front.

        The rule: the persona's system message comes first. A system message that the conversation begins with is added
        to its text; one of another persona is replaced, and so are that one's examples. The examples follow as turns,
        then the conversation. Where a language has to be asked for, the user's latest message gets one more sentence;
        thus the beginning of the prompt stays the same and comes from the engine's cache.

        Args:
            value: A string, messages, a prompt value, or a dict with `input` or `messages` and values for variables.
        """
        return compose(self, value)

    def invoke(self, input: PersonaInput, config: RunnableConfig | None = None, **kwargs: Any) -> PromptValue:  # noqa: A002
        """The prompt for an input."""
        check_no_arguments(self, kwargs)
        persona = effective(self, config)
        return self._call_with_config(
            lambda value: ChatPromptValue(messages=compose(persona, value)), input, config, run_type="prompt"
        )

    def __or__(self, other: Any) -> Any:
        return self.with_model(other) if is_chat_model(other) else super().__or__(other)

    def pipe(self, *others: Any, name: str | None = None) -> Any:
        """As `|`, one after the other."""
        if others and is_chat_model(others[0]):
            chain = self.with_model(others[0])
            return chain.pipe(*others[1:], name=name) if len(others) > 1 else chain
        return super().pipe(*others, name=name)

    def with_model(self, model: Runnable[Any, Any]) -> PersonaChain:
        """The same as `persona | model`, typed."""
        return PersonaChain(persona=self, model=model)

    def warm(self, model: Runnable[Any, Any], **variables: str) -> int:
        """Compute the beginning that all prompts of this persona share, so that the first answer starts sooner.

        It is also kept on the disk, from where later processes read it; see `ChatQwen.warm`.

        Returns:
            How many tokens of it are ready.

        Raises:
            CapabilityError: For another chat model than one of this machine.
        """
        beginning = self.replace(language=None).messages({"messages": [], **variables})
        return require_local(model, "Persona.warm").warm(beginning)


def load_persona(path: str | Path) -> Persona:
    """Read one persona from a YAML, TOML or JSON file; without a `name` it is known by the file's name.

    Raises:
        PersonaError: For a file that cannot be read or is no persona, with the line where it is wrong.
    """
    return Persona.from_spec(read_file(path))


def load_personas(folder: str | Path) -> dict[str, Persona]:
    """Read all personas of a folder, by their names.

    Raises:
        PersonaError: For a folder that is none, a file that is wrong, and two personas of one name.
    """
    return {name: Persona.from_spec(spec) for name, spec in read_folder(folder).items()}


@cache
def builtin(name: str) -> Persona:
    """A persona of the package's own library by its name.

    Raises:
        PersonaError: For a name that is not there.
    """
    return Persona.from_spec(builtin_spec(name))


def builtins() -> dict[str, Persona]:
    """All of the package's own personas by their names, in alphabetical order."""
    return {name: builtin(name) for name in builtin_specs()}
