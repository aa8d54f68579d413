"""`langchain-qwen ask`: one question, one answer on stdout."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable

from langchain_qwen.cli import model as models
from langchain_qwen.cli.terminal import read_text, say, waiting, write
from langchain_qwen.errors import InvalidMessagesError, InvalidSchemaError, OutputTruncatedError

PATIENCE_S = 2.0


def ask(
    question: str, options: models.ModelOptions, *, system: str | None, json_schema: Path | None, stream: bool
) -> None:
    """Print the answer.

    Args:
        question: May be empty when something is piped in.
        options: The model.
        system: The system message.
        json_schema: A file with a schema that the answer has to fit.
        stream: Print while the answer is generated.

    Raises:
        QwenError: There is no answer, or not one that fits the schema.
    """
    text = _with_pipe(question)
    arguments = {} if json_schema is None else {"response_format": _response_format(json_schema)}
    messages: list[BaseMessage] = [SystemMessage(system)] if system else []
    messages.append(HumanMessage(text))
    model = models.make_model(options).bind(**arguments)
    answer = _streamed(model, messages) if stream else _whole(model, messages)
    if not answer.text.endswith("\n"):
        write("\n")
    if answer.response_metadata.get("finish_reason") == "length" and answer.usage_metadata:
        _report_cut(answer.usage_metadata["output_tokens"], has_schema=json_schema is not None)


def _streamed(model: Runnable[LanguageModelInput, AIMessage], messages: list[BaseMessage]) -> AIMessage:
    chunks = []
    try:
        with closing(models.stream_chunks(model, messages, "Loading")) as stream:
            for chunk in stream:
                chunks.append(chunk)
                write(chunk.text)
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            write("\n")  # the shell's prompt gets a line of its own
        raise
    return models.join(chunks)


def _whole(model: Runnable[LanguageModelInput, AIMessage], messages: list[BaseMessage]) -> AIMessage:
    with waiting("Answering"):
        answer = model.invoke(messages)
    write(answer.text)
    return answer


def _report_cut(tokens: int, *, has_schema: bool) -> None:
    if has_schema:
        raise OutputTruncatedError(
            f"the answer was cut after {tokens} tokens and is no whole JSON; raise --max-tokens, or bound the lengths "
            "in the schema (maxLength, maxItems)"
        )
    say(f"(cut after {tokens} tokens; --max-tokens allows a longer answer)")


def _with_pipe(question: str) -> str:
    """What was piped in, then the question."""
    piped = _read_pipe()
    text = "\n\n".join(part for part in (piped.strip("\n"), question) if part.strip())
    if not text:
        raise InvalidMessagesError('there is no question; write one: langchain-qwen ask "Why is the sky blue?"')
    return text


def _read_pipe() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    patience = threading.Timer(PATIENCE_S, say, ["Reading what is piped in, until it ends (none? add: < /dev/null)"])
    patience.start()
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidMessagesError(
            f"what is piped in is not UTF-8 text (byte {error.start}); convert it first, for instance with iconv"
        ) from error
    finally:
        patience.cancel()


def _response_format(path: Path) -> dict[str, Any]:
    """OpenAI's form around the schema in a file."""
    text = read_text(path)
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise InvalidSchemaError(f"{path} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidSchemaError(f"{path} holds no JSON Schema: that is an object, not {json.dumps(schema)[:40]}")
    return {"type": "json_schema", "json_schema": {"name": path.stem, "schema": schema, "strict": True}}
