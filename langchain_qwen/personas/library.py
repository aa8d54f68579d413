"""The personas that come with the package."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas.files import load_personas
from langchain_qwen.personas.persona import Persona


def builtin(name: str) -> Persona:
    """A persona of the package's own library by its name.

    Raises:
        PersonaError: For a name that is not there.
    """
    personas = builtins()
    if name not in personas:
        near = difflib.get_close_matches(name, personas, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(personas)}"
        raise PersonaError(f"there is no built-in persona {name!r}; {hint}")
    return personas[name]


@cache
def builtins() -> dict[str, Persona]:
    """All of them by their names, in alphabetical order."""
    with resources.as_file(resources.files("langchain_qwen.personas") / "data" / "library") as folder:
        return dict(sorted(load_personas(folder).items()))
