"""Token ids to text, as it becomes complete."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class Detokenizer:
    """Holds back the bytes of a character that later tokens complete (emoji, CJK and Thai are often split).

    All pieces together are the decoded bytes of all tokens, whatever they are; bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, token_bytes: Callable[[int], bytes]):
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that `token` completes."""
        return self._decoder.decode(self._token_bytes(token))

    def flush(self) -> str:
        """What is left at the end of the answer."""
        return self._decoder.decode(b"", final=True)
