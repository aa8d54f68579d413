"""What form an answer must have, from the arguments that LangChain passes for tools and structured output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_qwen.errors import InvalidParameterError, InvalidSchemaError
from langchain_qwen.output import grammars
from langchain_qwen.output.schema import check_levels

# The arguments of a call that are planned here; `bind_tools` and `with_structured_output` bind them.
PLAN_ARGUMENTS = ("tools", "tool_choice", "parallel_tool_calls", "strict", "response_format")

Tool = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """The calls that need not be made again.

    Attributes:
        calls: Names and arguments of those whose results stand in the conversation.
        failing: Tools that have failed too often.
    """

    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    failing: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """The tools of these calls."""
        return self.failing | {name for name, _ in self.calls}

    def holds(self, name: str | None, arguments: Any) -> bool:
        """Whether this call is one of them."""
        return name in self.failing or any(made == (name, arguments) for made in self.calls)


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """How one answer is prompted for, constrained and parsed.

    Attributes:
        tools: Tools that the prompt shows, in OpenAI's format.
        grammar: The llguidance grammar that the answer follows; None for free text.
        instruction: A system message that goes after the conversation; None for none.
        one_call: Whether the answer ends with its first tool call.
        several: Whether it may hold more than one call, if that is decided first.
        calls: Whether the tools may be called; the prompt shows them in any case, so that its beginning stays the same.
        forced: The tools one of which must be called; none where the model decides.
        repeatable: Names of tools that may say something else when they are called again.
        forms: Names of tools that run nothing: to call one is to answer.
        shown: Whether the answer's text reaches the caller, or only its calls.
        answered: Calls that are withheld; None lets all through as they come.
        otherwise: What is generated in place of this answer where nothing of it reaches the caller.
        decides: Whether its text is no answer but decides how the answer is generated.
    """

    tools: Sequence[Tool] = ()
    grammar: str | None = None
    instruction: str | None = None
    one_call: bool = False
    several: bool = False
    calls: bool = True
    forced: Sequence[Tool] = ()
    repeatable: frozenset[str] = frozenset()
    forms: frozenset[str] = frozenset()
    shown: bool = True
    answered: Answered | None = None
    otherwise: OutputPlan | None = None
    decides: bool = False

    @property
    def tool_names(self) -> list[str]:
        """Names of the tools that may be called."""
        return [tool["function"]["name"] for tool in self.tools] if self.calls else []

    @property
    def running(self) -> list[Tool]:
        """The tools that run something."""
        return [tool for tool in self.tools if tool["function"]["name"] not in self.forms]

    @property
    def thinks(self) -> bool:
        """Whether a reasoning model may think before it answers; a grammar leaves no room for it."""
        return self.grammar is None

    @property
    def last(self) -> OutputPlan:
        """The one with the longest prompt: that after which there is no other."""
        return self if self.otherwise is None else self.otherwise.last

    def after(self, roles: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A conversation, as the template's roles, with what the plan says behind it."""
        return roles if self.instruction is None else [*roles, {"role": "system", "content": self.instruction}]


def plan_output(
    *,
    tools: Sequence[Tool] | None = None,
    tool_choice: Any = None,
    parallel_tool_calls: bool | None = None,
    strict: bool | None = None,
    response_format: Mapping[str, Any] | None = None,
) -> OutputPlan:
    """Decide on prompt, grammar and parser.

    Args:
        tools: In OpenAI's format.
        tool_choice: None or "auto": the model decides. "none": no calls. "any", "required" or True: at least one
            call. A tool's name, or a dict that names one: that tool. Where some tools are forms, which run nothing, the
            model decides about the others, and fills in a form where it calls none.
        parallel_tool_calls: Whether one answer may hold several calls. Default: where the model decides to call it may
            call several times; a forced call is one call, since small models that must call do not know when to stop.
        strict: Also where the model decides, a call must be of a bound tool and its arguments must fit the schema.
        response_format: `{"type": "text" | "json_object" | "json_schema", ...}` as in OpenAI's API, or
            `{"type": "grammar", "grammar": ...}` with a grammar in llguidance's Lark dialect.

    Raises:
        InvalidParameterError: For values that do not exist or contradict each other.
        InvalidSchemaError: For a schema that cannot be compiled.
    """
    _check_tools(tools := list(tools or ()))
    repeatable, forms = _marked(tools, "repeatable"), _marked(tools, "form")
    tools = shown(tools)
    tool_choice = _name_in(tool_choice) if isinstance(tool_choice, Mapping) else tool_choice
    forced = _forced_tools(tools, tool_choice)
    if isinstance(response_format, Mapping) and response_format.get("type") == "grammar":
        return OutputPlan(grammar=_grammar_of(response_format, tools))
    schema = _schema_of(response_format)
    if forced and schema is not None:
        raise InvalidParameterError("tool_choice forces a tool call, which contradicts response_format; drop one")
    answer = None
    if forced:
        must = [tool for tool in forced if tool["function"]["name"] in forms] or forced
        parallel = parallel_tool_calls is True
        # The prompt shows all tools, whichever is forced, so that its beginning stays the same.
        grammar = grammars.tool_calls(must, parallel=parallel)
        answer = OutputPlan(tools, grammar, one_call=not parallel, forced=must, repeatable=repeatable)
        if len(must) == len(forced):
            return answer
    elif schema is not None:
        grammar = grammars.json_schema(schema)
        answer = OutputPlan(tools, grammar, _instruction(response_format or {}), calls=False)
    if not tools or tool_choice in ("none", False):
        return answer or OutputPlan(tools, grammars.text_without_calls(tools) if tools else None, calls=False)
    several = parallel_tool_calls is not False
    return OutputPlan(
        tools,
        # A call that must come fits its schema, whichever it is.
        grammars.text_or_tool_calls(tools, parallel=several) if strict or forced else None,
        one_call=not several,
        several=several,
        repeatable=repeatable,
        forms=forms if forced else frozenset(),
        # Under a schema or a form alone, small models call nothing and make the tools' results up.
        shown=answer is None,
        otherwise=answer,
    )


def shown(tools: Sequence[Tool]) -> list[Tool]:
    """The tools as the prompt shows them, without what is said to this package alone."""
    return [{key: value for key, value in tool.items() if key != "extras"} for tool in tools]


def _marked(tools: Sequence[Tool], mark: str) -> frozenset[str]:
    """The names of the tools of which `extras` say this."""
    return frozenset(tool["function"]["name"] for tool in tools if (tool.get("extras") or {}).get(mark))


def _check_tools(tools: Sequence[Tool]) -> None:
    check_levels(tools)  # also for those whose arguments are not enforced: the prompt shows all
    for tool in tools:
        match tool:
            case {"function": {"name": str()}}:
                continue
        raise InvalidSchemaError(
            "a tool has no name in OpenAI's, Anthropic's or Bedrock's form (tools that other providers run themselves "
            f"do not run here): {str(dict(tool))[:200]}"
        )


def _forced_tools(tools: Sequence[Tool], choice: Any) -> list[Tool]:
    """The tools one of which must be called; none where the model decides."""
    if choice in (None, False, "auto", "none"):
        return []
    if not tools:
        raise InvalidParameterError(f"tool_choice={choice!r} needs tools; pass them to bind_tools")
    if choice in ("any", "required", True):
        return list(tools)
    named = [tool for tool in tools if tool["function"]["name"] == choice]
    if not named:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        raise InvalidParameterError(
            f"tool_choice={choice!r} is neither 'auto', 'none', 'any', 'required' nor a bound tool ({names})"
        )
    return named


def _name_in(choice: Mapping[str, Any]) -> Any:
    """The name or word in OpenAI's and Anthropic's dict forms; the dict itself where it has neither."""
    inner = choice.get("function", choice)
    name = inner.get("name") if isinstance(inner, Mapping) else inner
    return name or choice.get("type") or dict(choice)


def _schema_of(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if response_format is None:
        return None
    match response_format:
        case {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}} | {
            "type": "json_schema",
            "schema": dict(schema),
        }:
            return schema
    raise InvalidParameterError(
        'response_format must be {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}, '
        '{"type": "json_object"}, {"type": "grammar", "grammar": ...} or {"type": "text"}'
    )


def _grammar_of(response_format: Mapping[str, Any], tools: Sequence[Tool]) -> str:
    grammar = response_format.get("grammar")
    if not isinstance(grammar, str):
        raise InvalidParameterError('response_format {"type": "grammar"} needs "grammar": a text in Lark')
    if tools:
        raise InvalidParameterError("a grammar for the whole answer contradicts tools; drop one")
    return grammar


def _instruction(response_format: Mapping[str, Any]) -> str | None:
    """Tell the model the schema; in JSON mode the caller's prompt says what is wanted.

    It goes to the end, so that the prompt's beginning is the same as without it and comes from the cache.
    """
    if response_format.get("type") != "json_schema":
        return None
    schema = _schema_of(response_format)
    return (
        "Answer with one JSON value that conforms to this JSON Schema, and nothing else:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )
