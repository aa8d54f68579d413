"""The page that shows the built-in personas: `python -m langchain_qwen.personas.gallery > docs/personas.md`."""

from __future__ import annotations

import sys

from langchain_qwen.personas.persona import Persona, builtins

_HEAD = """\
# Built-in personas

`builtin("name") | model` answers as one of these; `builtin("name").replace(...)` makes your own of it. In the terminal:
`langchain-qwen chat --persona name`. The texts are what the model is told.
"""


def gallery() -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *(_entry(persona) for persona in builtins().values())])


def _entry(persona: Persona) -> str:
    variables = [name if value is None else f"{name} (default: {value})" for name, value in persona.variables.items()]
    given = {name: f"<{name}>" for name in persona.variables}
    facts = {
        "Variables": ", ".join(variables),
        "Form": f"`{persona.output.model_dump_json(exclude_none=True)}`" if persona.output else "",
        "Language": persona.language or "no rule",
        "Examples": str(len(persona.examples) or ""),
    }
    lines = [f"- {name}: {fact}" for name, fact in facts.items() if fact]
    quoted = "\n".join(f"> {line}".rstrip() for line in persona.system_text(**given).splitlines())
    return f"## {persona.name}\n\n{persona.description}\n\n{quoted}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(gallery())
