"""The runnable behind `ChatQwen.with_structured_output`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import is_dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from langchain_core import output_parsers
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser, openai_tools
from langchain_core.output_parsers.pydantic import TBaseModel
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import (
    Runnable,
    RunnableAssign,
    RunnableBranch,
    RunnableConfig,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.utils.json import parse_json_markdown
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import TypeAdapter, ValidationError
from pydantic.v1 import BaseModel as BaseModelV1

from langchain_qwen.converting import json_schema_of, openai_tool_of
from langchain_qwen.errors import InvalidParameterError, OutputFormatError, OutputTruncatedError

METHODS = ("json_schema", "function_calling", "json_mode")


class _ToTheEnd(BaseCumulativeTransformOutputParser[Any]):
    """Takes the end of an answer for its end. LangChain's parsers complete what is cut, and streams swallow errors."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        message: Any = result[0].message  # type: ignore[attr-defined]  # they read messages alone
        if not isinstance(message, AIMessage):  # what LangChain makes of one that does not stream
            message = AIMessage(**message.model_dump())
        if partial and isinstance(message, AIMessageChunk) and message.chunk_position != "last":
            return super().parse_result(result, partial=True)
        _check_length(message)
        if not self._is_whole(message):
            raise OutputFormatError(
                "the structured output is no whole JSON; where a stop string ended it, ask without that string: "
                f"{message.text[:200]!r}"
            )
        return super().parse_result([ChatGeneration(message=message)])

    def _is_whole(self, message: AIMessage) -> bool:
        try:
            parse_json_markdown(message.text, parser=partial(json.loads, strict=False))
        except ValueError:
            return False
        return True


class _CallToTheEnd(_ToTheEnd):
    def _is_whole(self, message: AIMessage) -> bool:
        return not message.invalid_tool_calls


# Named as LangChain's: so they are called in traces.
class JsonOutputParser(_ToTheEnd, output_parsers.JsonOutputParser): ...  # noqa: D101


class PydanticOutputParser(_ToTheEnd, output_parsers.PydanticOutputParser[TBaseModel]): ...  # noqa: D101


class JsonOutputKeyToolsParser(_CallToTheEnd, openai_tools.JsonOutputKeyToolsParser): ...  # noqa: D101


class PydanticToolsParser(_CallToTheEnd, openai_tools.PydanticToolsParser): ...  # noqa: D101


class _AssignedAtOnce(RunnableAssign):
    """Streams its result as one: fallbacks stand in for a first chunk only, and what fails here is the second."""

    def stream(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        yield self.invoke(input, config, **kwargs)

    async def astream(
        self,
        input: dict[str, Any],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        yield await self.ainvoke(input, config, **kwargs)


def build(
    model: BaseChatModel,
    schema: dict[str, Any] | type,
    *,
    method: str,
    include_raw: bool,
    strict: bool | None,
    bound: Mapping[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Model, check and parser; see `ChatQwen.with_structured_output`."""
    if method not in METHODS:
        raise InvalidParameterError(f"method={method!r} is none of {', '.join(METHODS)}")
    pydantic_class = schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
    tracing = {"ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema}}
    further = dict(bound)
    tools = further.pop("tools", None) or ()
    parser: Runnable[Any, Any]
    llm: Runnable[LanguageModelInput, AIMessage]
    if method == "function_calling":
        name = openai_tool_of(schema)["function"]["name"]
        forced = {"tool_choice": name, "strict": strict, "parallel_tool_calls": False}
        llm = model.bind_tools([schema, *tools], **{**forced, **tracing, **further})
        parser = (
            PydanticToolsParser(tools=[pydantic_class], first_tool_only=True)
            if pydantic_class
            else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        )
    else:
        form = {"response_format": _response_format(schema, method), **tracing, **further}
        llm = model.bind_tools(tools, **form) if tools else model.bind(**form)
        parser = PydanticOutputParser(pydantic_object=pydantic_class) if pydantic_class else JsonOutputParser()
        if tools:
            # Where the model calls a tool instead, there is no object; the raw message has the call.
            parser = RunnableBranch((lambda message: bool(message.tool_calls), _check_length), parser)
    if not include_raw:
        return llm | parser
    steps: Any = {"parsed": itemgetter("raw") | parser, "parsing_error": lambda _: None}
    parse = _AssignedAtOnce(mapper=RunnableParallel(steps))
    no_result = RunnablePassthrough.assign(parsed=lambda _: None)
    # The model comes first: what a call brings goes to the first step, and not into a map.
    return (
        llm
        | RunnableParallel(raw=RunnablePassthrough())
        | parse.with_fallbacks([no_result], exception_key="parsing_error")
    )


def as_response_format(given: Any) -> Any:
    """OpenAI's dict for a class; what is no class, as it is."""
    return _response_format(given, "json_schema") if isinstance(given, type) else given


def parsed(schema: type, text: str) -> Any:
    """The object of a class that a JSON text stands for; a dict for a TypedDict.

    Raises:
        OutputFormatError: Where the class refuses it: its own validators know more than its JSON Schema.
    """
    try:
        if issubclass(schema, BaseModelV1):
            return schema.parse_raw(text)
        return TypeAdapter(schema).validate_json(text)
    except (ValidationError, ValueError) as error:
        raise OutputFormatError(
            f"the answer fits the JSON Schema of {schema.__name__}, but not the class: {error}"
        ) from error


def _response_format(schema: dict[str, Any] | type, method: str) -> dict[str, Any]:
    if method == "json_mode":
        return {"type": "json_object"}
    if is_dataclass(schema):
        schema = TypeAdapter(schema).json_schema()
    # A JSON Schema is taken as it stands; classes and tools in OpenAI's or Anthropic's form are converted.
    is_tool = isinstance(schema, dict) and bool({"function", "parameters", "input_schema"} & schema.keys())
    json_schema = schema if isinstance(schema, dict) and not is_tool else json_schema_of(schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": json_schema.get("title", "answer"), "schema": json_schema, "strict": True},
    }


def _check_length(message: AIMessage) -> None:
    if message.response_metadata.get("finish_reason") == "length":
        raise OutputTruncatedError(
            "max_tokens ended the structured output before it was complete; raise max_tokens, or bound the lengths "
            "in the schema (maxLength, maxItems)"
        )
