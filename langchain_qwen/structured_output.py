"""The runnable behind `ChatQwen.with_structured_output`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from operator import itemgetter
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_qwen.errors import InvalidParameterError, OutputTruncatedError

METHODS = ("json_schema", "function_calling", "json_mode")


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
    parser: Any
    llm: Runnable[LanguageModelInput, AIMessage]
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]
        llm = model.bind_tools([schema], tool_choice=name, strict=strict, parallel_tool_calls=False, **tracing, **bound)
        parser = (
            PydanticToolsParser(tools=[pydantic_class], first_tool_only=True)
            if pydantic_class
            else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        )
    else:
        llm = model.bind(response_format=_response_format(schema, method), **tracing, **bound)
        parser = PydanticOutputParser(pydantic_object=pydantic_class) if pydantic_class else JsonOutputParser()
    checked: Runnable[Any, Any] = RunnableGenerator(_refuse_truncated, _arefuse_truncated) | parser
    if not include_raw:
        return llm | checked
    parse = RunnablePassthrough.assign(parsed=itemgetter("raw") | checked, parsing_error=lambda _: None)
    no_result = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=llm) | parse.with_fallbacks([no_result], exception_key="parsing_error")


def _response_format(schema: dict[str, Any] | type, method: str) -> dict[str, Any]:
    if method == "json_mode":
        return {"type": "json_object"}
    # A JSON Schema is taken as it stands; classes and tools in OpenAI's or Anthropic's form are converted.
    is_tool = isinstance(schema, dict) and bool({"function", "parameters", "input_schema"} & schema.keys())
    json_schema = schema if isinstance(schema, dict) and not is_tool else convert_to_json_schema(schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": json_schema.get("title", "answer"), "schema": json_schema, "strict": True},
    }


def _check(message: BaseMessage) -> None:
    if message.response_metadata.get("finish_reason") == "length":
        raise OutputTruncatedError(
            "max_tokens ended the structured output before it was complete; raise max_tokens, or bound the lengths "
            "in the schema (maxLength, maxItems)"
        )


def _refuse_truncated(messages: Iterator[BaseMessage]) -> Iterator[BaseMessage]:
    """Pass messages or chunks on; raise at the one that says the output was cut."""
    for message in messages:
        _check(message)
        yield message


async def _arefuse_truncated(messages: AsyncIterator[BaseMessage]) -> AsyncIterator[BaseMessage]:
    async for message in messages:
        _check(message)
        yield message
