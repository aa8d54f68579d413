"""What is known of an answer without much asking: the features that its risk is read from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import regex
from langchain_core.messages import BaseMessage

from langchain_qwen.grounding import kinds, prompts
from langchain_qwen.grounding.passages import Passage
from langchain_qwen.grounding.quoting import Quoter
from langchain_qwen.grounding.texts import statements
from langchain_qwen.grounding.verifying import content_words, known_among, numbers, share_known, support
from langchain_qwen.grounding.words import words

_MOST_MISSING = 3
_LEAST_LOG_PROBABILITY = -8.0
_YES_OR_NO = (["yes"], ["no"])
_OTHER_SCRIPT = regex.compile(r"(?!\p{Latin})\p{L}")

# What each model of `risk.Calibration` is fitted on.
GLANCE = ("asked_share", "asked_near", "asked_missing", "other_script")
EARLY = ("early", *GLANCE)
_FOUND = ("stated", "agreed", "confirmed")
_SAID = ("said_share", "said_missing", "said_near", "supporters", "kind_wrong")
WORDS = (*GLANCE, *_SAID)
# Beside odds, the words that question and passages share tell nothing more, and count against questions in other words.
WHOLE = ("other_script", *_SAID, *_FOUND, "mean_log_probability", "least_log_probability")
# What can only raise the risk; all others can only lower it.
RAISES = frozenset({"asked_missing", "other_script", "said_missing", "kind_wrong"})


def of_question(question: str, passages: Sequence[Passage], quoter: Quoter) -> dict[str, float]:
    """What is known before there is an answer.

    asked_share: the share of the question's words that all passages together hold; asked_near: that one sentence holds;
    asked_missing: how many of its names and numbers no passage holds.
    """
    text = "\n".join(f"{passage.heading}{passage.text}" for passage in passages)
    return {
        "asked_share": share_known(content_words(question), content_words(text)),
        "asked_near": quoter.nearest(),
        "asked_missing": float(min(_MOST_MISSING, len(support(question, text).missing))),
        "other_script": float(_OTHER_SCRIPT.search(question) is not None),
    }


def of_answer(question: str, answer: str, passages: Sequence[Passage], quoter: Quoter) -> dict[str, float]:
    """What the words of an answer tell.

    said_share: the share of its words that the passages hold; said_missing: how many of its names and numbers they do
    not; said_near: the share of the question's words beside the sentence quoted for it; supporters: in how many
    passages it is; kind_wrong: whether it holds nothing of the kind that is asked for.
    """
    text = "\n".join(f"{passage.heading}{passage.text}" for passage in passages)
    found = support(answer, text, question)
    sentences = [answer[start:end] for start, end in statements(answer)]
    quotes = [quoter.quotes(sentence) for sentence in sentences]
    own = [word for word in content_words(answer) if word not in set(content_words(question))]
    return {
        "said_share": share_known([*own, *numbers(answer)], {*content_words(text), *numbers(text)}),
        "said_missing": float(min(_MOST_MISSING, len(found.missing))),
        "said_near": max((quoter.share_asked(one) for one in quotes), default=0.0),
        "supporters": math.log1p(max((len({quote.passage for quote in one}) for one in quotes), default=0)),
        "kind_wrong": float(kinds.fits(kinds.wanted(question), answer) is False),
    }


def of_statement(answer: str, reply: BaseMessage) -> dict[str, float]:
    """What the model finds where it reads the sentences nearest to question and answer, and nothing else.

    stated: the log odds that they state an answer; agreed: the share of its words that the answer holds, 0 where there
    is none. An answer that was made up seldom comes up again beside other words.
    """
    return {"stated": prompts.log_odds(reply), "agreed": agreed(prompts.copied(reply), answer)}


def agreed(found: str | None, answer: str) -> float:
    """The share of the words of a short answer that another answer holds; 0 for None."""
    if found is None:
        return 0.0
    asked, said = words(found), words(answer)
    if asked[:1] in _YES_OR_NO:  # which a sentence need not repeat
        return float(asked[0] == said[0]) if said[:1] in _YES_OR_NO else 0.5
    told = numbers(answer)
    held = [bool(known_among([word], said) or (numbers(word) and numbers(word) <= told)) for word in asked]
    return sum(held) / len(held) if held else 0.0


def of_tokens(messages: Sequence[BaseMessage]) -> dict[str, float]:
    """How sure the model was of the tokens of its answer; nothing where it reports no log probabilities."""
    found = [
        max(_LEAST_LOG_PROBABILITY, float(token["logprob"]))
        for message in messages
        for token in (message.response_metadata.get("logprobs") or {}).get("content") or ()
    ]
    if not found:
        return {}
    return {"mean_log_probability": sum(found) / len(found), "least_log_probability": min(found)}
