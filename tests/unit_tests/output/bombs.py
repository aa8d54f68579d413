"""Schemas that are small to send and dear to compile, and a process that compiles them all under limits.

Run as a module it prints a line of JSON for each: its name, the CPU seconds of its compilation and of the first masks,
and the error, if there was one.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from typing import Any

from langchain_qwen.engine.constraint import Constraint
from langchain_qwen.errors import QwenError
from langchain_qwen.output.grammars import json_schema
from tests.unit_tests.output.answers import tokenizer

MEMORY = 1 << 30  # bytes that all bombs together may add


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = wrap(schema)
    return schema


def chain(length: int, link: Callable[[dict[str, str]], Any]) -> dict[str, Any]:
    """Definitions each of which is made from a reference to the next one."""
    definitions: dict[str, Any] = {f"d{i}": link({"$ref": f"#/$defs/d{i + 1}"}) for i in range(length)}
    return {"$defs": {**definitions, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def string(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, **more}


def properties(count: int, schema: Callable[[int], Any] = lambda _: {}) -> dict[str, Any]:
    return {f"p{i}": schema(i) for i in range(count)}


# name: (schema, whether it must compile; None where either will do)
BOMBS: dict[str, tuple[Any, bool | None]] = {
    "many items": ({"type": "array", "minItems": 10**9}, False),
    "quite many items": ({"type": "array", "items": {"const": 1}, "minItems": 9_999}, None),
    "many unique items": (
        {"items": {"type": "string"}, "type": "array", "uniqueItems": True, "minItems": 10**9},
        False,
    ),
    "room for many items": ({"type": "array", "maxItems": 10**12}, True),
    "long string": ({"type": "string", "minLength": 10**12}, False),
    "room for a long string": ({"type": "string", "maxLength": 10**12}, True),
    "long string of a pattern": (string("^a+$", minLength=9_999), None),
    "reference doubled in allOf": (chain(25, lambda ref: {"allOf": [ref, {**ref, "title": "x"}]}), True),
    "reference doubled in anyOf": (chain(25, lambda ref: {"anyOf": [ref, {**ref, "title": "x"}]}), True),
    "reference doubled in oneOf": (chain(25, lambda ref: {"oneOf": [ref, {**ref, "title": "x"}]}), False),
    "reference doubled in properties": (chain(60, lambda ref: {"properties": {"a": ref, "b": ref}}), True),
    "long chain of references": (chain(5_000, lambda ref: {"allOf": [ref]}), False),
    "long chain of arrays": (chain(5_000, lambda ref: {"items": ref}), False),
    "reference to itself": ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, False),
    "deep arrays": (nested(3_000, lambda schema: {"items": schema}), False),
    "deep allOf": (nested(3_000, lambda schema: {"allOf": [schema]}), False),
    "deep not": (nested(90, lambda schema: {"not": schema}), False),
    "deep annotation": ({"default": nested(3_000, lambda value: [value])}, False),
    "many patterns": ({"type": "string", "allOf": [{"pattern": f"a{{{i}}}b"} for i in range(1, 41)]}, False),
    "seven patterns": ({"type": "string", "allOf": [{"pattern": f"a{{{i}}}b"} for i in range(1, 8)]}, None),
    "many strings with patterns": ({"properties": properties(3_000, lambda i: string(f"^[a-z]+{i}$"))}, False),
    "many strings with seven patterns": (
        {
            "properties": properties(
                99, lambda i: {"type": "string", "allOf": [{"pattern": f"{i}.{n}"} for n in range(7)]}
            )
        },
        False,
    ),
    "counted repetitions within each other": (string("^(a{1000}){1000}$"), False),
    "nested stars": (string("^((a*)*)*$"), True),
    "long pattern": (string("a" * 100_000), False),
    "deep pattern": (string("(" * 3_000 + "a" + ")" * 3_000), False),
    "far back pattern": (string(".*a.{4000}$"), None),
    "backtracking on a name": ({"properties": {"a" * 40 + "!": {}}, "patternProperties": {"^(a+)+$": {}}}, True),
    "backtracking on a constant": (string("^(a+)+$", enum=["a" * 40 + "!", "a"]), True),
    "many pattern properties": ({"patternProperties": {f"^x{i}.*y": {} for i in range(100)}, "type": "object"}, False),
    "names times patterns": (
        {"patternProperties": {f"^x{i}": {} for i in range(100)}, "properties": properties(1_000)},
        False,
    ),
    "long enum": ({"enum": [f"value {i}" for i in range(10_000)]}, True),
    "longer enum": ({"enum": [f"value {i}" for i in range(99_000)]}, False),
    "enum of objects": ({"enum": [{"a": i} for i in range(5_000)]}, False),
    "enum with a pattern": (string("^v", enum=[f"value {i}" for i in range(20_000)]), None),
    "unique items of a long enum": (
        {"type": "array", "uniqueItems": True, "items": {"enum": list(range(9_000))}},
        True,
    ),
    "long constant": ({"const": list(range(20_000))}, None),
    "long names": ({"type": "object", "properties": {"a" * 10_000 * i: {} for i in range(1, 50)}}, False),
    "many optional properties": ({"properties": properties(5_000)}, False),
    "quite many optional properties": ({"properties": properties(500)}, True),
    "many required properties": ({"properties": properties(2_000), "required": list(properties(2_000))}, True),
    "many properties of which three": ({"properties": properties(2_000), "minProperties": 3}, False),
    "many enumerated names": (
        {"type": "object", "propertyNames": {"enum": list(properties(5_000))}, "additionalProperties": True},
        False,
    ),
    "long tuple": ({"type": "array", "prefixItems": [{"const": i} for i in range(5_000)]}, False),
    "product of choices": (
        {"allOf": [{"anyOf": [{"required": [f"a{i}{j}"]} for j in range(5)]} for i in range(20)]},
        False,
    ),
    "choice of many": ({"oneOf": [{"required": [f"a{i}"]} for i in range(300)]}, False),
    "many conditions": (
        {"allOf": [{"if": {"required": [f"a{i}"]}, "then": {"required": [f"b{i}"]}} for i in range(40)]},
        False,
    ),
    "many dependencies": ({"dependentRequired": {f"a{i}": [f"b{i}"] for i in range(40)}}, False),
    "huge bounds": ({"type": "integer", "minimum": -(10**4000), "maximum": 10**4000}, True),
    "huge constant": ({"const": 10**5_000}, False),
    "tiny step": ({"type": "number", "multipleOf": 5e-324}, False),
    "large step": ({"type": "integer", "multipleOf": 9_973}, True),
    "many sets": (
        {"properties": properties(99, lambda i: {"type": "array", "items": string(f"{i}"), "uniqueItems": True})},
        False,
    ),
}


def compile_and_start(schema: Any) -> None:
    """As a request does: the grammar, its check, and the masks of some tokens."""
    constraint = Constraint(tokenizer(), json_schema(schema))
    constraint.check()
    matcher = constraint.matcher()
    for _ in range(3):
        allowed = matcher.allowed()
        allowed[tokenizer().eos_tokens] = False
        if matcher.complete or not allowed.any():
            break
        matcher.accept(int(allowed.nonzero()[0][0]))


def main() -> None:
    tokenizer()
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for name, (schema, _) in BOMBS.items():
        print(json.dumps({"begun": name}), flush=True)  # noqa: T201
        started, error = time.process_time(), None
        try:
            compile_and_start(schema)
        except QwenError as found:
            error = f"{type(found).__name__}: {found}"
        print(json.dumps({"name": name, "seconds": time.process_time() - started, "error": error}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
