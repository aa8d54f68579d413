"""The checkpoint's own chat template, rendered as transformers renders it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from langchain_qwen.errors import IncompleteCheckpointError, InvalidMessagesError

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


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

    def render(self, roles: list[dict[str, Any]], tools: list[Any]) -> str:
        """The text of a conversation, up to where the answer begins.

        Raises:
            InvalidMessagesError: If the template refuses the conversation.
            IncompleteCheckpointError: If the template is no valid Jinja.
        """
        try:
            return _compile(self.source).render(
                messages=roles,
                tools=tools or None,
                documents=None,
                add_generation_prompt=True,
                **dict(self.special_tokens),
            )
        except TemplateSyntaxError as error:
            raise IncompleteCheckpointError(
                f"the checkpoint's chat template cannot be compiled ({error}); download the checkpoint again"
            ) from error
        except TemplateError as error:
            raise InvalidMessagesError(f"the checkpoint's chat template refuses the messages: {error}") from error


class _Generation(Extension):
    """Where an answer would be masked in training; its contents are rendered as they are."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own interface

    def parse(self, parser: Parser) -> list[Node]:
        """Drop the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)
def _compile(source: str) -> Template:
    """The template in transformers' environment, rebuilt here since importing transformers takes a second."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own filter, it escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])
