"""Keeps data from becoming control tokens on its way through a chat template.

A template writes `<|im_start|>` and data side by side into one text. Before that, every character in the data that a
control token can begin with (`<`, for Qwen) is replaced by a stand-in, a character that occurs nowhere in template and
data. So no control token in the rendered text can begin in data. One could still begin in the template and end in data
(`<` there, `|im_end|>` here), so data that could go on with a begun token gets a separator, another such character, in
front. After the rendered text has been split at its control tokens, `reveal` gives each piece its characters back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from langchain_qwen.errors import InvalidMessagesError

# Unicode sets these code points aside for a program's own use, never for exchange; private use areas follow, should a
# text hold all of them.
_STAND_INS = (*range(0xFDD0, 0xFDF0), *range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE))


class ControlTokens:
    """What `Guard` has to know of the control tokens."""

    def __init__(self, tokens: Iterable[str]):
        self._tokens = sorted(tokens)
        self._longest = max(map(len, self._tokens))
        self.first_characters = sorted({token[0] for token in self._tokens})
        self._ends = tuple(sorted({token[i:] for token in self._tokens for i in range(1, len(token))}))

    def may_go_on(self, text: str) -> bool:
        """Whether a text put behind the beginning of a control token could complete it, alone or with more text."""
        if text.startswith(self._ends):
            return True
        return len(text) < self._longest and any(end.startswith(text) for end in self._ends)

    def may_look_up(self, key: str) -> bool:
        """Whether a template may read a dict by this key (`tool.function.name`), and can do so without danger."""
        return key.isidentifier() and not any(token in key for token in self._tokens)


class Guard:
    """Stand-ins for one conversation.

    Args:
        controls: The control tokens.
        template: Text of the template.
        data: All that the template will be given.
    """

    def __init__(self, controls: ControlTokens, template: str, *data: Any):
        texts = [template, *strings(data)]
        free = (character for character in map(chr, _STAND_INS) if not any(character in text for text in texts))
        try:
            self._separator = next(free)
            self._stand_ins = {character: next(free) for character in controls.first_characters}
        except StopIteration:
            raise InvalidMessagesError(
                "the messages hold every private character of Unicode; they are not text"
            ) from None
        self._controls = controls

    def hide(self, data: Any) -> Any:
        """The same JSON data with stand-ins in every string; keys that a template may look up stay as they are."""
        match data:
            case str():
                return self._hide(data)
            case dict():
                return {self._hide_key(key): self.hide(value) for key, value in data.items()}
            case list():
                return [self.hide(item) for item in data]
        return data

    def reveal(self, text: str) -> str:
        """The text as it would have been rendered without stand-ins."""
        for character, stand_in in self._stand_ins.items():
            text = text.replace(stand_in, character)
        return text.replace(self._separator, "")

    def _hide_key(self, key: str) -> str:
        return key if self._controls.may_look_up(key) else self._hide(key)

    def _hide(self, text: str) -> str:
        before = self._separator if text and self._controls.may_go_on(text) else ""
        for character, stand_in in self._stand_ins.items():
            text = text.replace(character, stand_in)
        return before + text


def strings(data: Any) -> Iterator[str]:
    """All strings in JSON data, keys included."""
    match data:
        case str():
            yield data
        case dict():
            yield from chain.from_iterable(map(strings, chain(data, data.values())))
        case list() | tuple():
            yield from chain.from_iterable(map(strings, data))
