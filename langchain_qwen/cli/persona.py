"""Personas at the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_qwen.personas import Persona


def choose(name: str | None, language: str | None) -> Persona | None:
    """A persona with a language; None where neither is asked for.

    Args:
        name: Of a built-in one, or a file; None is the assistant.
        language: A code, a name, or "auto"; None leaves the persona's own.

    Raises:
        PersonaError: For what is not there, and for a persona with variables that have no value.
    """
    if name is None and language is None:
        return None
    from langchain_qwen.personas import builtin, load_persona

    is_file = name is not None and ("/" in name or Path(name).suffix != "")
    persona = load_persona(Path(name)) if name is not None and is_file else builtin(name or "assistant")
    persona.system_text()  # raises now rather than at the first answer
    return persona if language is None else persona.replace(language=language)


def list_personas() -> str:
    """The built-in ones, a line each."""
    from langchain_qwen.personas import builtins

    width = max(map(len, builtins()))
    return "\n".join(f"{name:{width}}  {persona.description}" for name, persona in builtins().items())


def persona_names() -> list[str]:
    """Of the built-in ones."""
    from langchain_qwen.personas import builtins

    return sorted(builtins())
