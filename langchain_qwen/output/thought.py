"""The reasoning of a model that thinks before it answers, told from the answer by the tokens around it.

Reasoning checkpoints on Qwen2.5's architecture (QwQ, the distilled R1) have tokens for `<think>` and `</think>`; some
templates write the first one already, so that the answer begins within the reasoning. The characters alone are text.
"""

from __future__ import annotations

from collections.abc import Callable

from langchain_qwen.output.detokenize import Detokenizer
from langchain_qwen.output.pieces import Piece, Reasoning

_NO_TOKENS = (-1, -1)


class Thought:
    """Takes the tokens of the reasoning out of an answer. White space at its ends is layout and dropped.

    Args:
        token_bytes: The bytes of a token.
        marks: The tokens that begin and end reasoning; None for a model without them.
        opened: Whether the prompt ends within reasoning.

    Attributes:
        tokens: Of the reasoning so far, its marks included.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], marks: tuple[int, int] | None, *, opened: bool):
        self.tokens = 0
        self._token_bytes = token_bytes
        self._begin, self._end = marks or _NO_TOKENS
        self._text = Detokenizer(token_bytes) if opened else None  # None outside of reasoning
        self._space = ""  # in reasoning: layout if nothing follows
        self._said = False
        self._just_over = False  # of the answer, only white space since the reasoning

    def feed(self, token: int) -> list[Piece] | None:
        """What a token adds to the reasoning; None for a token of the answer."""
        if self._text is None:
            if token == self._begin:
                self._text = Detokenizer(self._token_bytes)
                self.tokens += 1
                return []
            self._just_over = self._just_over and not self._token_bytes(token).strip()
            return [] if self._just_over else None
        self.tokens += 1
        return self.finish() if token == self._end else self._say(self._text.feed(token))

    def finish(self) -> list[Piece]:
        """What was held back, at the end of the reasoning."""
        if self._text is None:
            return []
        pieces = self._say(self._text.flush())
        self._text, self._space, self._said, self._just_over = None, "", False, True
        return pieces

    def _say(self, text: str) -> list[Piece]:
        text = self._space + text if self._said else text.lstrip()
        said = text.rstrip()
        self._space = text[len(said) :]
        self._said = self._said or bool(said)
        return [Reasoning(said)] if said else []
