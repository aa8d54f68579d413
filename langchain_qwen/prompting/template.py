"""The checkpoint's own chat template, rendered as transformers renders it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

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
        # Imported here, since it takes a second that users of other parts need not wait for.
        from transformers.utils.chat_template_utils import render_jinja_template

        variables: dict[str, Any] = dict(self.special_tokens)
        try:
            # Annotated as a string, it is a pair: the texts, and where the assistant speaks in them.
            rendered: Any = render_jinja_template(
                conversations=[roles],
                tools=tools or None,
                chat_template=self.source,
                add_generation_prompt=True,
                **variables,
            )
        except TemplateSyntaxError as error:
            raise IncompleteCheckpointError(
                f"the checkpoint's chat template cannot be compiled ({error}); download the checkpoint again"
            ) from error
        except TemplateError as error:
            raise InvalidMessagesError(f"the checkpoint's chat template refuses the messages: {error}") from error
        text: str = rendered[0][0]
        return text


def _text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])
