"""Right or wrong tool calls, as the Berkeley Function Calling Leaderboard's AST checker tells them.

A call is right when its function is the wanted one and every argument has one of the acceptable values; an argument may
be left out when "" is among them, and there is no other argument. Several calls may come in any order. Strings are
compared without case, spaces and the punctuation `,./-_*^`; an integer will do for a float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_IGNORED = re.compile(r"[ ,./\-_*^]")
Call = tuple[str, Mapping[str, Any]]


def function_name(original: str) -> str:
    """The name under which a function is bound: other characters became `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", original)


def right(calls: Sequence[Call], wanted: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the calls are the wanted ones.

    Args:
        calls: Name and arguments of each call that was made.
        wanted: For each wanted call `{name: {argument: [acceptable values]}}`, with the original name.
        tools: The bound tools in OpenAI's format.
    """
    if len(calls) != len(wanted):
        return False
    if not wanted:
        return True
    parameters = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in tools}
    return any(
        _call_matches(call, wanted[0], parameters) and right([*calls[:index], *calls[index + 1 :]], wanted[1:], tools)
        for index, call in enumerate(calls)
    )


def _call_matches(call: Call, wanted: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    name, arguments = call
    ((original, acceptable),) = wanted.items()
    if name != function_name(original):
        return False
    declared = parameters.get(name, {})
    types = {key: schema.get("type") for key, schema in declared.get("properties", {}).items()}
    required = set(declared.get("required", ()))
    return all(
        key in acceptable and _type_fits(value, types.get(key)) and any(_equal(value, one) for one in acceptable[key])
        for key, value in arguments.items()
    ) and all(key in arguments or ("" in values and key not in required) for key, values in acceptable.items())


def _type_fits(value: Any, declared: Any) -> bool:
    return not (declared == "integer" and isinstance(value, float))


def _equal(value: Any, acceptable: Any) -> bool:
    """Whether a value is the acceptable one; in objects every member has a list of acceptable values of its own."""
    if isinstance(value, bool) or isinstance(acceptable, bool):
        return value is acceptable
    if isinstance(value, str) and isinstance(acceptable, str):
        return _plain(value) == _plain(acceptable)
    if isinstance(value, list) and isinstance(acceptable, list):
        return len(value) == len(acceptable) and all(map(_equal, value, acceptable))
    if isinstance(value, dict) and isinstance(acceptable, dict):
        return all(key in acceptable and _one_of(item, acceptable[key]) for key, item in value.items()) and all(
            key in value or (isinstance(values, list) and "" in values) for key, values in acceptable.items()
        )
    return bool(value == acceptable)


def _one_of(value: Any, acceptable: Any) -> bool:
    return any(_equal(value, one) for one in acceptable) if isinstance(acceptable, list) else _equal(value, acceptable)


def _plain(text: str) -> str:
    return _IGNORED.sub("", text).lower().replace("'", '"')
