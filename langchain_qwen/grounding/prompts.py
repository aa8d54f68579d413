"""The prompts of grounded answers.

The answer is asked for with LangChain's much-used prompt for retrieval (rlm/rag-prompt), since nothing that was tried
answers better; dates and titles of passages are added where they are known, and in which language to answer where it
would not be clear. All that is asked about the answer follows in the same conversation, so that the passages are read
once and come from the prefix cache afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langchain_qwen import yes_or_no
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding.passages import Passage
from langchain_qwen.personas.detection import detect
from langchain_qwen.personas.languages import language_of

_ANSWER = (
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved context to answer the "
    "question. If you don't know the answer, just say that you don't know. Use three sentences maximum and keep the "
    "answer concise.{language}\n{today}Question: {question} \nContext: {context} \nAnswer:"
)
_STATED = "Does the passage state the answer to this question? Reply with No, or with Yes and the answer."
# Real turns, since a small model goes by examples rather than by a description. What is near to the question and does
# not answer it is half of them.
_EXAMPLES = (
    (
        "The old mill at Garrow was built in 1820 by the Pike family and ground corn until 1931. Since 1968 it has "
        "been a youth hostel with forty beds.",
        (
            ("When was the mill built?", "1820"),
            ("Who runs the youth hostel?", None),
            ("How many beds does the hostel have?", "forty"),
            ("When did the mill burn down?", None),
            ("Is the mill still used to grind corn?", "no"),
        ),
    ),
    (
        "Marta Lind won the Nordic Cup in 2009 and again in 2012. In 2010 she was injured and did not start.",
        (
            ("Who won the Nordic Cup in 2011?", None),
            ("In which year was Marta Lind injured?", "2010"),
            ("Who won the Nordic Cup in 2012?", "Marta Lind"),
            ("How old is Marta Lind?", None),
        ),
    ),
    (
        "北海大桥于1998年通车，全长1420米，由工程师何建设计。",
        (
            ("北海大桥是谁设计的？", "工程师何建"),
            ("建造北海大桥花了多少钱？", None),
        ),
    ),
)
_YES = "Yes: "
STATED: dict[str, Any] = {
    **yes_or_no.ONE_TOKEN,
    "max_tokens": 24,
    "temperature": 0.0,
    "response_format": {"type": "grammar", "grammar": f'start: "No" | "{_YES}" /[^\\n]{{1,100}}/'},
}
_CONFIRMED = "Is this answer stated in the passages? Reply with Yes or No."
_OTHERWISE = (
    "Question: {question}\nFirst source: {first}\nSecond source: {second}\n\nDoes the second source give another "
    "answer to this question? Reply with Yes or No."
)
_OTHERWISE_EXAMPLES = (
    (
        "When did the mill burn down?",
        "The mill burnt down in 1931.",
        (("The mill of Garrow burnt down in 1929, people say.", True), ("The mill was sold in 1929.", False)),
    ),
    (
        "Who leads the club?",
        "Ann Berg leads the club.",
        (("The club was founded by Tom Falk.", False), ("The club, led by Tom Falk, has forty members.", True)),
    ),
    ("谁建造了大桥？", "大桥由何建建造。", (("大桥是李刚在1998年建造的。", True), ("李刚在1998年通过大桥。", False))),
)
_STANDALONE = (
    "Rewrite my last question so that it can be understood without this conversation, in its own language. "
    "Reply with the question only."
)
_TRANSLATE = "Translate this question into {language}. Reply with the translation only.\n\n{question}"
_SPLIT = "Split this question into questions that ask for one fact each, each to be understood alone.\n\n{question}"
_PART = "Answer only this, from the context: {question}"
_SPLIT_EXAMPLES = (
    (
        "When was the mill built, and who runs it today?",
        ("When was the mill built?", "Who runs the mill today?"),
    ),
    ("北海大桥的长度和通车时间分别是多少？", ("北海大桥的长度是多少？", "北海大桥的通车时间是什么时候？")),
    ("What are the capitals of Peru and Chile?", ("What is the capital of Peru?", "What is the capital of Chile?")),
)
MOST_PARTS = 4
_SAMPLE = 300  # characters of a passage from which its language is told
_ANSWERED_UNASKED = (None, "en", "zh")  # the prompt's language and the model's first one


def answer(passages: Sequence[Passage], question: str, as_of: date, language: str) -> list[BaseMessage]:
    """The question over its passages; `language` is what `asked_language` says."""
    # The day is told where a passage has one: "last year" is read beside it.
    today = f"Today is {as_of.isoformat()}.\n" if any(passage.date for passage in passages) else ""
    context = "\n\n".join(f"{passage.heading}{passage.prompted}" for passage in passages)
    return [HumanMessage(_ANSWER.format(language=language, today=today, question=question, context=context))]


def asked_language(passages: Sequence[Passage], question: str) -> str:
    """Asks for an answer in the language that question and passages share."""
    code = detect(question).code
    if code in _ANSWERED_UNASKED or detect(" ".join(passage.text[:_SAMPLE] for passage in passages)).code != code:
        return ""
    return f" Answer in {language_of(str(code)).english}."


def stated(excerpt: str, question: str) -> list[BaseMessage]:
    """Whether a part of the passages states the answer, and which, behind examples that are always the same.

    It is to be sent with `STATED`, or with `yes_or_no.ONE_TOKEN` where only the odds are wanted.
    """
    messages: list[BaseMessage] = [SystemMessage("You check passages.")]
    for text, examples in _EXAMPLES:
        for asked, found in examples:
            messages += [_check(text, asked), AIMessage(f"{_YES}{found}" if found else "No")]
    return [*messages, _check(excerpt, question)]


def copied(message: BaseMessage) -> str | None:
    """The answer that a reply to `stated` found; None where it found none."""
    text = message.text
    return text.removeprefix(_YES).strip() if text.startswith(_YES) else None


def _check(text: str, question: str) -> HumanMessage:
    return HumanMessage(f"Passage: {text}\n\nQuestion: {question}\n\n{_STATED}")


def confirmed(asked: Sequence[BaseMessage], answered: str) -> list[BaseMessage]:
    """Whether the passages state the answer that was given."""
    return [*asked, AIMessage(answered), HumanMessage(_CONFIRMED)]


def otherwise(question: str, answered: str, said: str) -> list[BaseMessage]:
    """Whether a sentence of the passages gives another answer than the one that was given, behind examples."""
    messages: list[BaseMessage] = [SystemMessage("You compare sources.")]
    for asked, first, examples in _OTHERWISE_EXAMPLES:
        for second, other in examples:
            messages += [_compared(asked, first, second), AIMessage("Yes" if other else "No")]
    return [*messages, _compared(question, answered, said)]


def _compared(question: str, first: str, second: str) -> HumanMessage:
    return HumanMessage(_OTHERWISE.format(question=question, first=first, second=second))


def part(asked: Sequence[BaseMessage], answered: str, question: str) -> list[BaseMessage]:
    """One of several facts that were asked for, behind the answer to the whole."""
    return [*asked, AIMessage(answered), HumanMessage(_PART.format(question=question))]


def standalone(conversation: Sequence[BaseMessage]) -> list[BaseMessage]:
    """A chat's last question, to be understood alone."""
    return [*conversation, HumanMessage(_STANDALONE)]


def translation(question: str, language: str) -> list[BaseMessage]:
    """A question in the documents' language."""
    return [HumanMessage(_TRANSLATE.format(language=language, question=question))]


def split(question: str) -> list[BaseMessage]:
    """A question for several facts as a numbered list of questions for one each."""
    messages: list[BaseMessage] = [SystemMessage("You split questions.")]
    for example, parts in _SPLIT_EXAMPLES:
        listed = "\n".join(f"{number}. {one}" for number, one in enumerate(parts, 1))
        messages += [HumanMessage(_SPLIT.format(question=example)), AIMessage(listed)]
    return [*messages, HumanMessage(_SPLIT.format(question=question))]


def split_grammar() -> str:
    """Holds the list of `split` to its form: two to four numbered lines."""
    further = "".join(f' ("\\n{number}. " LINE' for number in range(3, MOST_PARTS + 1))
    return f'start: "1. " LINE "\\n2. " LINE{further}{")?" * (MOST_PARTS - 2)}\nLINE: /[^\\n]{{3,200}}/'


def log_odds(message: BaseMessage) -> float:
    """Log odds of Yes against No.

    Raises:
        InvalidParameterError: For a message without log probabilities.
    """
    odds = yes_or_no.log_odds(message)
    if odds is None:
        raise InvalidParameterError(
            "the model reports no log probabilities, which tell whether passages answer a question; use a ChatQwen"
        )
    return odds
