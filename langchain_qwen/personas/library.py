"""The personas that come with the package."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas.files import read_folder
from langchain_qwen.personas.spec import PersonaSpec


@cache
def builtin_specs() -> dict[str, PersonaSpec]:
    """All of them by their names, in alphabetical order."""
    with resources.as_file(resources.files("langchain_qwen.personas") / "data" / "library") as folder:
        return dict(sorted(read_folder(folder).items()))


def builtin_spec(name: str) -> PersonaSpec:
    """One by its name.

    Raises:
        PersonaError: For a name that is not there.
    """
    specs = builtin_specs()
    if name not in specs:
        near = difflib.get_close_matches(name, specs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(specs)}"
        raise PersonaError(f"there is no built-in persona {name!r}; {hint}")
    return specs[name]
