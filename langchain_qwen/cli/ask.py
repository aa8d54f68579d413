"""`langchain-qwen ask`: one question, one answer on stdout."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable

from langchain_qwen.cli import model as models
from langchain_qwen.cli.terminal import answering, read_text, say, waiting
from langchain_qwen.errors import InvalidMessagesError, InvalidSchemaError, OutputTruncatedError

PATIENCE_S = 2.0


def ask(
    question: str,
    options: models.ModelOptions,
    *,
    system: str | None,
    files: Sequence[Path],
    as_json: bool,
    schema: Path | None,
    stream: bool,
) -> None:
    """Print the answer.

    Args:
        question: May be empty when something is piped in.
        options: The model.
        system: The system message.
        files: Texts that come before the question.
        as_json: The answer is a JSON object.
        schema: A file with a JSON Schema that the answer has to fit.
        stream: Print while the answer is generated.

    Raises:
        QwenError: There is no answer, or not one that fits the schema.
    """
    text = _with_texts(question, files)
    form = {"type": "json_object"} if as_json else None
    form = form if schema is None else _response_format(schema)
    arguments = {} if form is None else {"response_format": form}
    messages: list[BaseMessage] = [SystemMessage(system)] if system else []
    messages.append(HumanMessage(text))
    model = models.make_model(options).bind(**arguments)
    # JSON is for programs, and copied out of a terminal: it is never laid out.
    answer = (_streamed if stream else _whole)(model, messages, plain=form is not None)
    if answer.response_metadata.get("finish_reason") == "length" and answer.usage_metadata:
        _report_cut(answer.usage_metadata["output_tokens"], is_json=form is not None)


def _streamed(model: Runnable[LanguageModelInput, AIMessage], messages: list[BaseMessage], *, plain: bool) -> AIMessage:
    chunks = []
    with (
        closing(models.stream_chunks(model, messages, "Loading")) as stream,
        answering(plain=plain, to_the_letter=True) as writer,
    ):
        for chunk in stream:
            chunks.append(chunk)
            writer.write(chunk.text)
    return models.join(chunks)


def _whole(model: Runnable[LanguageModelInput, AIMessage], messages: list[BaseMessage], *, plain: bool) -> AIMessage:
    with waiting("Answering"):
        answer = model.invoke(messages)
    with answering(plain=plain) as writer:
        writer.write(answer.text)
    return answer


def _report_cut(tokens: int, *, is_json: bool) -> None:
    if is_json:
        raise OutputTruncatedError(
            f"the answer was cut after {tokens} tokens and is no whole JSON; raise --max-tokens, or bound the lengths "
            "in the schema (maxLength, maxItems)"
        )
    say(f"(cut after {tokens} tokens; --max-tokens allows a longer answer)")


def _with_texts(question: str, files: Sequence[Path]) -> str:
    """What was piped in, then the files, then the question."""
    texts = [_read_pipe().strip("\n")]
    texts += [f"{path.name}:\n{read_text(path)}" if len(files) > 1 else read_text(path) for path in files]
    text = "\n\n".join(part for part in (*texts, question) if part.strip())
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
    except (ValueError, RecursionError) as error:
        raise InvalidSchemaError(f"{path} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidSchemaError(f"{path} holds no JSON Schema: that is an object, not {json.dumps(schema)[:40]}")
    return {"type": "json_schema", "json_schema": {"name": path.stem, "schema": schema, "strict": True}}
