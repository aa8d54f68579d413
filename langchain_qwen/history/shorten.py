"""One message that is larger than the budget.

The rule: of the question or tool result with the most tokens in the open turn, the beginning and the end are kept, two
parts to one, and a note between them says how many characters are left out. As much is kept as fits.
"""

from __future__ import annotations

from collections.abc import Iterator

from langchain_core.messages import BaseMessage

from langchain_qwen.history.view import Segment, View


def shorten(view: View, budget: int) -> Iterator[int]:
    """Shorten messages of the open turn, the largest first, until the prompt fits or nothing is left to shorten.

    Yields:
        The places of the messages that were shortened.
    """
    done: set[int] = set()
    while view.tokens > budget:
        choice = max(_choices(view, done), key=lambda item: len(item[0].messages[item[1]].text), default=None)
        if choice is None:
            return
        segment, at = choice
        done.add(segment.places[at])
        if _shorten(view, segment, at, segment.tokens - (view.tokens - budget)):
            yield segment.places[at]


def _choices(view: View, done: set[int]) -> Iterator[tuple[Segment, int]]:
    for segment in view.body:
        if segment.turn != view.turn or segment.turn in view.pinned_turns:
            continue
        for at, place in enumerate(segment.places):
            if place not in done and (segment.role == "user" or at > 0):
                yield segment, at


def _shorten(view: View, segment: Segment, at: int, room: int) -> bool:
    """Keep as many characters as let the segment have `room` tokens; all but the note where even that is too much."""
    message = segment.messages[at]
    text = message.text

    def with_kept(characters: int) -> tuple[BaseMessage, ...]:
        cut = message.model_copy(update={"content": _middle_out(text, characters)})
        return (*segment.messages[:at], cut, *segment.messages[at + 1 :])

    low, high = 0, len(text)  # `low` characters are kept for sure
    while low + 1 < high:
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
