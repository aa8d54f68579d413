"""The checkpoint's own chat template, rendered as transformers renders it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser

from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, InvalidMessagesError
from langchain_qwen.prompting.bounded_jinja import BoundedEnvironment
from langchain_qwen.prompting.template_work import UNITS, Budget, TemplateWorkError, spend, within

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_ENCODER = json.JSONEncoder(ensure_ascii=False)
WIDEST_INDENT = 32
LONGEST_SOURCE = 65_536  # characters; published templates have up to 20,000
_ADVICE = "Download the checkpoint again, or use another one"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template with the variables that transformers gives it.

    Attributes:
        source: The template's text.
        special_tokens: Names and texts, such as ("eos_token", "<|im_end|>").
    """

    source: str
    special_tokens: tuple[tuple[str, str], ...]

    @classmethod
    def from_folder(cls, folder: Path) -> ChatTemplate:
        """Read chat_template.jinja, else the entry in tokenizer_config.json.

        Raises:
            IncompleteCheckpointError: If there is none, or the files are damaged.
        """
        config: dict[str, Any] = {}
        file, config_file = folder / "chat_template.jinja", folder / "tokenizer_config.json"
        try:
            if config_file.is_file():
                config = json.loads(config_file.read_text(encoding="utf-8"))
            source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
        except ValueError as error:
            raise IncompleteCheckpointError(
                f"the chat template of {folder} cannot be read ({error}); download the checkpoint again"
            ) from error
        if isinstance(source, list):
            source = {entry["name"]: entry["template"] for entry in source}.get("default")
        if not isinstance(source, str):
            raise IncompleteCheckpointError(
                f"{folder} has no chat template; base models come without one: use an Instruct checkpoint, or "
                "download it again"
            )
        return cls(source, tuple((name, _text(config[name])) for name in _SPECIAL_TOKENS if config.get(name)))

    def render(
        self,
        roles: list[dict[str, Any]],
        tools: list[Any],
        variables: Mapping[str, Any] | None = None,
        *,
        opens_answer: bool = True,
    ) -> str:
        """The text of a conversation.

        Args:
            roles: The messages.
            tools: The tools.
            variables: More that the template may ask for.
            opens_answer: Whether the text ends where the answer begins, or with the last message.

        Raises:
            InvalidMessagesError: If the template refuses the conversation.
            IncompleteCheckpointError: If the template is no valid Jinja.
            CheckpointError: If it fails, or takes more work than the conversation can be worth.
        """
        template, cost = _compile(self.source)
        try:
            text: str = within(
                Budget(UNITS, (roles, tools, variables), cost),
                lambda: template.render(
                    **{
                        **dict(self.special_tokens),
                        "documents": None,
                        **(variables or {}),
                        "messages": roles,
                        "tools": tools or None,
                        "add_generation_prompt": opens_answer,
                    }
                ),
            )
        except TemplateWorkError as error:
            raise CheckpointError(
                f"the checkpoint's chat template does not come to an end: {error}. {_ADVICE}"
            ) from error
        except TemplateError as error:
            raise InvalidMessagesError(f"the checkpoint's chat template refuses the messages: {error}") from error
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint's chat template fails: {type(error).__name__}: {error}. {_ADVICE}"
            ) from error
        return text


class _Generation(Extension):
    """Where an answer would be masked in training; its contents are rendered as they are."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own interface

    def parse(self, parser: Parser) -> list[Node]:
        """Drop the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)
def _compile(source: str) -> tuple[Template, int]:
    """The template in transformers' environment, rebuilt here since importing transformers takes a second, and bounded.

    Returns:
        The template, and what one turn through it costs.
    """
    if len(source) > LONGEST_SOURCE:
        raise IncompleteCheckpointError(
            f"the checkpoint's chat template has {len(source):,} characters; the limit is {LONGEST_SOURCE:,}"
        )
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    environment.pay_for_filters()
    try:
        template: Template = within(Budget(UNITS), lambda: environment.from_string(source))
    except (TemplateError, TemplateWorkError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise IncompleteCheckpointError(
            f"the checkpoint's chat template cannot be compiled ({error}); download the checkpoint again"
        ) from error
    return template, len(source)


def _strftime_now(form: str) -> str:
    spend(64 * len(form))  # a width makes the C library's text up to 256 times as long
    return datetime.now().strftime(form)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own filter, it escapes nothing for HTML."""
    if not (ensure_ascii or indent is not None or separators or sort_keys):
        return _ENCODER.encode(value)
    if indent is not None and indent > WIDEST_INDENT:
        raise TemplateWorkError(f"JSON may be indented by {WIDEST_INDENT}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])
