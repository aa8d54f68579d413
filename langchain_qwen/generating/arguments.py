"""What a call is given beside its messages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from langchain_qwen.converting import openai_tool_of
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.output.plan import PLAN_ARGUMENTS
from langchain_qwen.parameters import GenerationParameters, merged, with_model_kwargs
from langchain_qwen.structured_output import as_response_format


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one call.

    Attributes:
        parameters: Those of the model object, with the call's on top.
        plan: What `plan_output` takes.
        model: Another model than the object's own; None for that.
        schema: The class that the answer is to be parsed into, if `response_format` is one.
    """

    parameters: GenerationParameters
    plan: dict[str, Any]
    model: str | None
    schema: type | None

    def check_one_answer(self) -> None:
        """Raise `InvalidParameterError` where several answers would have to be streamed as one."""
        if (self.parameters.n or 1) > 1:
            raise InvalidParameterError(
                f"n={self.parameters.n} answers cannot be streamed as one, nor guarded; call `generate` of the bare "
                "model without streaming, or leave n out"
            )


def read(base: GenerationParameters, stop: Sequence[str] | str | None, kwargs: Mapping[str, Any]) -> Arguments:
    """Split a call's arguments into parameters, those of the output's form, and the model."""
    kwargs = with_model_kwargs(kwargs)
    # LangChain itself reads `stream`: whether `invoke` streams.
    overrides = {name: value for name, value in kwargs.items() if name not in (*PLAN_ARGUMENTS, "model", "stream")}
    parameters = merged(base, overrides)
    if further := merged(GenerationParameters(), {"stop": stop}).stop:
        parameters = parameters.model_copy(update={"stop": [*(parameters.stop or []), *further]})
    form = kwargs.get("response_format")
    schema = form if isinstance(form, type) else None
    return Arguments(parameters, plan_arguments(kwargs), kwargs.get("model"), schema)


def plan_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `plan_output` among them, tools and response format in OpenAI's form."""
    plan = {name: kwargs[name] for name in PLAN_ARGUMENTS if name in kwargs}
    if plan.get("tools"):
        plan["tools"] = openai_tools(plan["tools"])
    if "response_format" in plan:
        plan["response_format"] = as_response_format(plan["response_format"])
    return plan


def of_each_answer(
    base: GenerationParameters, stop: Sequence[str] | str | None, kwargs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The arguments of each of `n` answers."""
    parameters = read(base, stop, kwargs).parameters
    alone = {**with_model_kwargs(kwargs), "n": 1, "stream_usage": True}
    if (n := parameters.n or 1) == 1:
        return [alone]
    seed = secrets.randbits(62) if parameters.seed is None else parameters.seed
    return [{**alone, "seed": seed + number} for number in range(n)]


def openai_tools(tools: Sequence[Any] | None, *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Tools of any kind as dicts of OpenAI's form."""
    return [_openai_tool(tool, strict) for tool in tools or ()]


def _openai_tool(tool: Any, strict: bool | None) -> dict[str, Any]:
    """LangChain's form leaves out what this package reads: `extras`, and whether a tool is a form of the answer."""
    extras = None
    if isinstance(tool, Mapping):
        extras = tool.get("extras")
    elif isinstance(tool, BaseTool):
        extras = tool.extras
    if isinstance(tool, type) or _runs_nothing(tool):
        extras = {**(extras or {}), "form": True}
    return {**openai_tool_of(tool, strict=strict), **({"extras": extras} if extras else {})}


def _runs_nothing(tool: Any) -> bool:
    """Such a tool is what LangChain's `ToolStrategy` makes of a schema."""
    return isinstance(tool, StructuredTool) and tool.func is None and tool.coroutine is None
