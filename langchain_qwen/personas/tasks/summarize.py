"""Summaries, also of texts longer than the window."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from langchain_qwen.capabilities import local_model, unwrap
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.personas.persona import builtin
from langchain_qwen.personas.tasks.steps import Ask, Result, Steps, task

_ANSWER_TOKENS = 1024  # kept free where the model has no max_tokens
_SPLITS = (r"\n\s*\n", r"\n", r"(?<=[.!?])\s+|(?<=[。！？])", r"\s+", "")


class Summary(Result):
    """The gist of a text.

    Attributes:
        text: The summary.
        pieces: How many pieces the text was summarized in; 1 where it fitted.
    """

    text: str
    pieces: int


def summarize(
    model: Runnable[Any, Any],
    *,
    sentences: int | None = None,
    bullets: int | None = None,
    language: str | None = "auto",
    max_input_tokens: int | None = None,
) -> Runnable[str, Summary]:
    """Summarize a text of any length.

    What does not fit into the window is cut at paragraphs, else at sentences, else at words; the pieces are summarized
    at the same time, then their summaries together, until all fits.

    Args:
        model: A chat model that counts tokens, bare or wrapped.
        sentences: At most so many sentences.
        bullets: At most so many bullet points (the default is 5).
        language: Of the summary: "auto" is that of the text.
        max_input_tokens: The longest piece in tokens; None is what the window holds. Small models see more in shorter
            ones.

    Raises:
        InvalidParameterError: For both `sentences` and `bullets`, or pieces too short to be summarized.
        PersonaError: For a number of them that no form has.
    """
    if sentences is not None and bullets is not None:
        raise InvalidParameterError("a summary has either sentences or bullets; drop one")
    if sentences is not None:
        form: dict[str, Any] = {"kind": "sentences", "at_most": sentences}
    else:
        form = {"kind": "bullets", "at_most": 5 if bullets is None else bullets}
    persona = builtin("summarizer").replace(output=form, language=language)
    chain = persona.with_model(model)
    counting: Any = local_model(model) or unwrap(model)[0].model

    def steps(text: str) -> Steps[Summary]:
        room = max_input_tokens or _room(counting, counting.get_num_tokens_from_messages(persona.messages("")))
        if room < 64:
            raise InvalidParameterError(f"pieces of {room} tokens are too short to be summarized; allow at least 64")
        parts = pieces(text, room, counting.get_num_tokens)
        count = len(parts)
        while len(parts) > 1:
            answers = yield Ask(chain, parts)
            joined = "\n\n".join(answer.text for answer in answers)
            shorter = pieces(joined, room, counting.get_num_tokens)
            if len(shorter) >= len(parts):
                raise InvalidParameterError(
                    f"summaries of {len(parts)} pieces do not get shorter than {room} tokens together; allow more "
                    "max_input_tokens, or fewer sentences or bullets"
                )
            parts = shorter
        (answer,) = yield Ask(chain, parts)
        return Summary(text=answer.text.strip(), pieces=count)

    return task("summarize", steps)


def _room(model: BaseChatModel, prompt_tokens: int) -> int:
    window = (model.profile or {}).get("max_input_tokens") or 32768
    answer = getattr(model, "max_tokens", None) or min(_ANSWER_TOKENS, window // 4)
    # The request for a language may come on top.
    return int(window) - prompt_tokens - int(answer) - 64


def pieces(text: str, room: int, count: Callable[[str], int], level: int = 0) -> list[str]:
    """The text in pieces of at most `room` tokens, as long as possible, cut at the coarsest places that do.

    Args:
        text: What to cut; white space at the cuts is left out.
        room: Tokens of a piece.
        count: Counts the tokens of a text.
        level: Where to begin among the places to cut at.
    """
    if count(text) <= room:
        return [text.strip()]
    units = [unit for unit in re.split(_SPLITS[level], text) if unit and unit.strip()] if _SPLITS[level] else [*text]
    glue = ("\n\n", "\n", " ", " ", "")[level]
    packed: list[list[str]] = [[]]
    left = room
    for unit in units:
        # Sums of counts come close to counts of the whole, and let a long text be packed in one pass.
        tokens = count(unit) + glue.count("\n")
        if packed[-1] and tokens > left:
            packed.append([])
            left = room
        packed[-1].append(unit)
        left -= tokens
    whole = [glue.join(part) for part in packed]
    finer = min(level + 1, len(_SPLITS) - 1)
    return [piece for part in whole for piece in (pieces(part, room, count, finer) if len(part) > 1 else [part])]
