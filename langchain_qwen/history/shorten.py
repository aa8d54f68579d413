"""One message that is larger than the budget.

The rule: of the question or tool result with the most tokens in the open turn, the beginning and the end are kept, two
parts to one, and a note between them says how many characters are left out. As much is kept as fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from langchain_core.messages import BaseMessage

from langchain_qwen.history.view import Segment, View


def shorten(view: View, budget: int) -> Iterator[int]:
    """Shorten messages of the open turn, the largest first, until the prompt fits or nothing is left to shorten.

    Yields:
        The places of the messages that were shortened.
    """
    choices = list(_choices(view))
    if _least(view, choices) > budget:
        return  # nothing would be gained, and trying takes long where there are many
    for segment, at in sorted(choices, key=lambda item: -len(item[0].messages[item[1]].text)):
        if view.tokens <= budget:
            return
        if _shorten(view, segment, at, segment.tokens - (view.tokens - budget)):
            yield segment.places[at]


def _least(view: View, choices: Sequence[tuple[Segment, int]]) -> int:
    """Tokens of the prompt with all that may be shortened left out."""
    tokens = view.tokens
    for segment, items in groupby(choices, key=lambda item: item[0]):
        messages = list(segment.messages)
        for _, at in items:
            messages[at] = messages[at].model_copy(update={"content": _middle_out(messages[at].text, 0)})
        tokens -= segment.tokens - view.counter.segment(messages)
    return tokens


def _choices(view: View) -> Iterator[tuple[Segment, int]]:
    for segment in view.body:
        if segment.turn != view.turn or segment.turn in view.pinned_turns:
            continue
        for at in range(len(segment.places)):
            text = segment.messages[at].text
            if (segment.role == "user" or at > 0) and len(_middle_out(text, 0)) < len(text.encode("utf-8", "replace")):
                yield segment, at


def _shorten(view: View, segment: Segment, at: int, room: int) -> bool:
    """Keep as many characters as let the segment have `room` tokens; all but the note where even that is too much."""
    message = segment.messages[at]
    text = message.text

    def with_kept(characters: int) -> tuple[BaseMessage, ...]:
        cut = message.model_copy(update={"content": _middle_out(text, characters)})
        return (*segment.messages[:at], cut, *segment.messages[at + 1 :])

    low, high = 0, len(text)  # `low` characters are kept for sure
    nothing_fits = view.counter.segment(with_kept(0)) > room
    while low + 1 < high and not nothing_fits:
        middle = (low + high) // 2
        if view.counter.segment(with_kept(middle)) <= room:
            low = middle
        else:
            high = middle
    shortened = with_kept(low)
    if view.counter.segment(shortened) >= segment.tokens:
        return False
    view.rewrite(segment, shortened)
    return True


def _middle_out(text: str, characters: int) -> str:
    end = characters // 3
    start = characters - end
    return f"{text[:start]}\n[... {len(text) - characters:,} characters left out ...]\n{text[len(text) - end :]}"
