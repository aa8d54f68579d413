"""Classes, functions and tools as JSON Schema: LangChain's conversion, but for recursive definitions.

LangChain writes each definition where something refers to it, and a definition within itself as `{}`, which anything
fits. A schema with such a definition is taken as pydantic writes it, with its `$defs`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_origin

from langchain_core.tools import BaseTool, create_schema_from_function
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic.errors import PydanticUserError

from langchain_qwen.errors import InvalidSchemaError

_REFERENCE = re.compile(r'"\$ref": "#/(?:\$defs|definitions)/([^"]+)"')


def json_schema_of(source: Any) -> dict[str, Any]:
    """The JSON Schema of a class, a function or a tool, with a title.

    Raises:
        InvalidSchemaError: Where there is none.
    """
    with _typed_errors(source):
        converted = convert_to_json_schema(source)
        own = _recursive(source)
    return converted if own is None else {**own, "title": converted["title"]}


def openai_tool_of(source: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """A tool of any kind as a dict of OpenAI's form.

    Raises:
        InvalidSchemaError: Where it is none.
    """
    with _typed_errors(source):
        converted = convert_to_openai_tool(source, strict=strict)
        own = _recursive(source)
    if own is None:
        return converted
    parameters = {key: value for key, value in own.items() if key not in ("title", "description")}
    return {**converted, "function": {**converted["function"], "parameters": parameters}}


def _recursive(source: Any) -> dict[str, Any] | None:
    """The schema as pydantic writes it, where a definition leads back to itself; else None."""
    if isinstance(source, BaseTool):
        source = source.tool_call_schema
    elif isinstance(source, Mapping):
        return None  # LangChain leaves it as it stands
    elif inspect.isroutine(source):
        source = create_schema_from_function(source.__name__, source, filter_args=(), include_injected=False)
    if isinstance(source, type) and is_basemodel_subclass(source):
        of_class: Any = source
        source = of_class.model_json_schema() if hasattr(source, "model_json_schema") else of_class.schema()
    if not isinstance(source, dict):
        return None
    definitions = source.get("$defs") or source.get("definitions") or {}
    reached = {name: set(_REFERENCE.findall(json.dumps(definition))) for name, definition in definitions.items()}
    for _ in reached:
        for names in reached.values():
            names.update(*(reached.get(name, ()) for name in list(names)))
    return source if any(name in names for name, names in reached.items()) else None


@contextmanager
def _typed_errors(source: Any) -> Iterator[None]:
    try:
        if get_origin(source) is not None:  # list[int], which Python 3.10 takes for a class
            raise TypeError("it is no class of its own")
        yield
    except (TypeError, ValueError, PydanticUserError) as error:
        raise InvalidSchemaError(
            f"{source!r:.200} cannot be made a JSON Schema; pass a pydantic class, a TypedDict, a function, a tool or "
            f"a dict ({error})"
        ) from error
