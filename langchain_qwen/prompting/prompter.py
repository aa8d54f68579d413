"""Messages to the exact ids that are sent, through the checkpoint's own chat template.

Text is data. The template's control tokens (`<|im_start|>`, `<tool_call>`, ...) become control ids; the same characters
in a message, a tool's description, a call's arguments or a result never do, so nobody can end a turn or forge a tool
call by writing markup: see `guard.py`. What stands between two control tokens is encoded as one ordinary piece. The ids
are thus those of transformers' `apply_chat_template` wherever the data holds no such markup.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_qwen.errors import InvalidMessagesError, InvalidParameterError, InvalidSchemaError
from langchain_qwen.forks import renewed_lock
from langchain_qwen.prompting.guard import ControlTokens, Guard
from langchain_qwen.prompting.roles import Role, to_roles
from langchain_qwen.prompting.template import ChatTemplate
from langchain_qwen.prompting.tokenizer import Tokenizer

Tool = Mapping[str, Any]

# Behind the last message where it is continued. Text that holds it elsewhere does no harm: the last one counts.
_MARK = "\ufffe continue \ufffe"


class Prompter:
    """Renders, encodes and counts conversations for one checkpoint. Safe to use from many threads.

    Tools are dicts in OpenAI's format.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer):
        self._template = template
        self._prepare: Callable[[Sequence[BaseMessage]], Sequence[BaseMessage]] = list
        self._control_ids = tokenizer.control_tokens
        self._controls = ControlTokens(tokenizer.control_tokens)
        # The longest token first, which is how the reference reads overlapping ones.
        longest_first = sorted(tokenizer.control_tokens, key=len, reverse=True)
        self._control = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._encode_piece = _Remembered(tokenizer.encode)
        self._closing_thought = tokenizer.closing_thought
        self._longest_token = max(len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size))
        self._variables: Mapping[str, Any] = {}
        self._continue_final = False

    def with_form(self, variables: Mapping[str, Any] | None, *, continue_final: bool = False) -> Prompter:
        """This prompter with more variables for the template, or one whose prompts end within the last message.

        Raises:
            InvalidParameterError: For variables that the messages and tools make up.
        """
        if taken := {"messages", "tools", "add_generation_prompt", "continue_final_message"} & {*(variables or ())}:
            raise InvalidParameterError(f"chat_template_kwargs cannot set {', '.join(sorted(taken))}; leave it out")
        if not variables and not continue_final:
            return self
        other = copy.copy(self)
        other._variables, other._continue_final = dict(variables or {}), continue_final
        return other

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> Prompter:
        """The prompter of a checkpoint folder; one object for the same template and tokenizer.

        Raises:
            IncompleteCheckpointError: If the folder has no chat template.
        """
        return _load(ChatTemplate.from_folder(folder), tokenizer)

    def after(self, prepare: Callable[[list[BaseMessage]], list[BaseMessage]]) -> Prompter:
        """A prompter for a model that changes messages before it sends them, as guarded models do."""
        changed = copy.copy(self)
        changed._prepare = lambda messages: self._prepare(prepare(list(messages)))
        return changed

    def render(self, messages: Sequence[BaseMessage], tools: Sequence[Tool] | None = None) -> str:
        """The prompt as text, as the template writes it, up to where the answer begins; raises as `encode` does."""
        return self._render(_read(self._prepare(messages)), _plain(tools))

    def encode(self, messages: Sequence[BaseMessage], tools: Sequence[Tool] | None = None) -> list[int]:
        """The prompt as ids, exactly as it is sent, up to where the answer begins.

        Does not ask for a whole conversation: `check_conversation` does.

        Raises:
            UnsupportedContentError: For content other than text.
            InvalidMessagesError: For no messages, and for messages that no conversation or the template can hold.
            InvalidSchemaError: For tools that are not JSON.
        """
        return self.encode_roles(_read(self._prepare(messages)), tools)

    def encode_roles(
        self, roles: Sequence[Role], tools: Sequence[Tool] | None = None, *, thinks: bool = True
    ) -> list[int]:
        """The same for messages that have been read already, by `to_roles` or `check_conversation`.

        Args:
            roles: The conversation.
            tools: What the prompt shows.
            thinks: False for an answer that cannot begin with reasoning: what the template has opened is closed.
        """
        plain_tools = _plain(tools)
        guard = Guard(self._controls, self._template.source, roles, plain_tools)
        # Roles are ours, not data, and templates compare them.
        hidden = [{key: value if key == "role" else guard.hide(value) for key, value in role.items()} for role in roles]
        rendered = self._render(hidden, guard.hide(plain_tools))
        ids: list[int] = []
        for position, piece in enumerate(self._control.split(rendered)):
            if position % 2:
                ids.append(self._control_ids[piece])
            elif piece:
                ids.extend(self._encode_piece(guard.reveal(piece)))
        return ids if thinks else ids + self._closing_thought(ids)

    def _render(self, roles: list[Role], tools: list[Any]) -> str:
        if not self._continue_final:
            return self._template.render(roles, tools, self._variables)
        if roles[-1]["role"] != "assistant" or roles[-1].get("tool_calls"):
            raise InvalidMessagesError(
                "continue_final_message needs an AI message without tool calls at the end, and no `response_format`"
            )
        # transformers' way, too: what stands behind the mark is not sent.
        roles = [*roles[:-1], {**roles[-1], "content": roles[-1]["content"] + _MARK}]
        return self._template.render(roles, tools, self._variables, opens_answer=False).rpartition(_MARK)[0]

    def count(self, messages: Sequence[BaseMessage], tools: Sequence[Tool] | None = None) -> int:
        """The length of `encode`, also for parts of a conversation as trimmers cut them; 0 for no messages."""
        return len(self.encode(messages, tools)) if messages else 0

    def least(self, messages: Sequence[BaseMessage]) -> int:
        """Tokens that the messages have at least, found without reading them.

        Each token has so many bytes at most, and normalisation (NFC) makes one character of at most four.
        """
        return sum(len(text) // (1 if text.isascii() else 4) // self._longest_token for text in map(_text, messages))


def _text(message: BaseMessage) -> str:
    return message.content if isinstance(message.content, str) else message.text


@functools.lru_cache(maxsize=8)
def _load(template: ChatTemplate, tokenizer: Tokenizer) -> Prompter:
    return Prompter(template, tokenizer)


def _read(messages: Sequence[BaseMessage]) -> list[Role]:
    if not messages:
        raise InvalidMessagesError("there are no messages; pass at least one, for instance a HumanMessage")
    return to_roles(messages)


def _plain(tools: Sequence[Tool] | None) -> list[Any]:
    """The tools in JSON's own types, so that the template writes all of it."""
    try:
        plain: list[Any] = json.loads(json.dumps(list(tools or ())))
    except (TypeError, ValueError) as error:
        raise InvalidSchemaError(f"the tools are not JSON ({error}); pass them through bind_tools") from error
    return plain


class _Remembered:
    """Ids of pieces, the least recently used forgotten first.

    A history is counted again and again with one more message, and its pieces stay the same.
    """

    def __init__(self, encode: Callable[[str], list[int]], max_tokens: int = 500_000):
        self._encode = encode
        self._room = max_tokens
        self._ids: OrderedDict[str, array[int]] = OrderedDict()
        self._lock = renewed_lock(self, "_lock")

    def __call__(self, piece: str) -> array[int]:
        with self._lock:
            if piece in self._ids:
                self._ids.move_to_end(piece)
                return self._ids[piece]
        ids = array("I", self._encode(piece))
        with self._lock:
            if piece not in self._ids:
                self._ids[piece] = ids
                self._room -= len(ids)
                while self._room < 0:
                    self._room += len(self._ids.popitem(last=False)[1])
        return ids
