"""Personas in files: YAML, TOML or JSON, with errors that name the line; also those that come with the package."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.reader import ReaderError

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas.spec import PersonaSpec
from langchain_qwen.regular_files import expanded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Place = tuple[str | int, ...]


def read_file(path: str | Path) -> PersonaSpec:
    """Read one persona from a file; without a `name` it is known by the file's name.

    Raises:
        PersonaError: For a file that cannot be read or is no persona, with the line where it is wrong.
    """
    path = expanded(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise PersonaError(f"{path}: a persona is a file that ends in {', '.join(_READERS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PersonaError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PersonaError(f"{path} is not UTF-8 text (byte {error.start})") from error
    try:
        values, line_of = reader(text)
    except _SyntaxProblem as problem:
        raise PersonaError(f"{path}, line {problem.line}: {problem}") from problem
    except RecursionError as error:
        raise PersonaError(f"{path} nests too deeply") from error
    except ValueError as error:  # of a date or a number that is none
        raise PersonaError(f"{path} holds a value that cannot be read: {error}") from error
    if not isinstance(values, Mapping):
        raise PersonaError(f"{path}, line 1: a persona is a mapping of names to values")
    try:
        return PersonaSpec(**{"name": path.stem, **{str(name): value for name, value in values.items()}})
    except PersonaError as error:
        raise PersonaError(_with_lines(path, error, line_of)) from error


def read_folder(folder: str | Path) -> dict[str, PersonaSpec]:
    """Read all personas of a folder, by their names.

    Raises:
        PersonaError: For a folder that is none, a file that is wrong, and two personas of one name.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise PersonaError(f"{folder} is no folder")
    personas: dict[str, PersonaSpec] = {}
    homes: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in _READERS):
        persona = read_file(path)
        if persona.name in personas:
            raise PersonaError(
                f"{path} and {homes[persona.name]} both hold a persona named {persona.name!r}; rename one"
            )
        personas[persona.name], homes[persona.name] = persona, path
    return personas


@cache
def builtin_specs() -> dict[str, PersonaSpec]:
    """All that come with the package by their names, in alphabetical order."""
    with resources.as_file(resources.files("langchain_qwen.personas") / "data" / "library") as folder:
        return dict(sorted(read_folder(folder).items()))


def builtin_spec(name: str) -> PersonaSpec:
    """One of these by its name.

    Raises:
        PersonaError: For a name that is not there.
    """
    specs = builtin_specs()
    if name not in specs:
        near = difflib.get_close_matches(name, specs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(specs)}"
        raise PersonaError(f"there is no built-in persona {name!r}; {hint}")
    return specs[name]


class _SyntaxProblem(Exception):  # noqa: N818  an inner signal that becomes a PersonaError
    def __init__(self, message: str, line: int):
        super().__init__(message)
        self.line = line


def _with_lines(path: Path, error: PersonaError, line_of: Callable[[Place], int]) -> str:
    if not isinstance(error.__cause__, ValidationError):
        return f"{path}: {error}"
    lines = []
    for detail in error.__cause__.errors(include_url=False):
        message = detail["msg"].removeprefix("Value error, ")
        # Pydantic puts the kind of a form between the names.
        where = ".".join(str(part) for part in detail["loc"])
        lines.append(f"{path}, line {line_of(detail['loc'])}: {f'{where}: ' if where else ''}{message}")
    return "\n".join(lines)


def _read_yaml(text: str) -> tuple[Any, Callable[[Place], int]]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_duplicates(root)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _SyntaxProblem(str(error.problem or error.context), mark.line + 1 if mark else 1) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _SyntaxProblem(f"the character #x{error.character:04x} is not allowed", line) from error
    return values, lambda place: _yaml_line(root, place)


def _refuse_duplicates(root: yaml.Node | None) -> None:
    """YAML's reader would take the last of two equal names in silence."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            names = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise _SyntaxProblem("a name is text, not a list or a mapping", key.start_mark.line + 1)
                if key.value in names:
                    raise _SyntaxProblem(f"{key.value!r} is there twice", key.start_mark.line + 1)
                names.add(key.value)
                waiting.append(value)


def _yaml_line(node: yaml.Node | None, place: Place) -> int:
    """The line of the deepest part of a place that is there."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
    return line


def _read_json(text: str) -> tuple[Any, Callable[[Place], int]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise _SyntaxProblem(error.msg, error.lineno) from error
    # JSON is YAML, but for tabs and DEL, which are blanks here.
    _, line_of = _read_yaml(re.sub(r"[\t\x7f]", " ", text))
    return values, line_of


def _read_toml(text: str) -> tuple[Any, Callable[[Place], int]]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise _SyntaxProblem(str(error), int(line[1]) if line else len(text.splitlines())) from error
    return values, lambda place: _toml_line(text, place)


def _toml_line(text: str, place: Place) -> int:
    """The line of a place's name, or of its table; TOML's reader keeps no lines itself."""
    table: list[str] = []
    entries: dict[str, int] = {}
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), start=1):
        here: list[str] = []
        if header := re.fullmatch(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            if line.strip().startswith("[["):
                entries[header[1]] = entries.get(header[1], -1) + 1
                table.append(str(entries[header[1]]))
            here = table
        elif name := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line):
            here = [*table, name[1]]
        wanted = [str(part) for part in place]
        shared = len(here) if here and here == [part for part in wanted if part in here][: len(here)] else 0
        if shared > depth:
            best, depth = number, shared
    return best


_READERS: dict[str, Callable[[str], tuple[Any, Callable[[Place], int]]]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".toml": _read_toml,
    ".json": _read_json,
}
