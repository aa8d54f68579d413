"""The languages an answer can be asked for in, and which one a conversation asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import yaml
from langchain_core.messages import BaseMessage, HumanMessage
from pydantic import BaseModel, ConfigDict

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas.detection import detect

AUTO = "auto"
_LETTERS = {"kana": r"\p{Hiragana}\p{Katakana}\p{Han}"}  # where the script's name is not that of a Unicode one


class WeakLanguageWarning(UserWarning):
    """The model is known to be weak in a language."""


class Language(BaseModel):
    """A language in its own words.

    Attributes:
        code: ISO 639-1.
        english: Its name in English.
        native: Its name in itself.
        script: The letters it is written in.
        answer: Asks for answers in the language, in the language.
        unanswered: Says that documents do not answer a question.
        unknown: Says that the model cannot know, with `{date}` for the month in which its knowledge ends.
        unsure: Says that an answer from memory may be wrong.
        asked: How people ask for it in their own language.
        named: Whether Qwen2.5's model card names it; in the others small models are weak.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    english: str
    native: str
    script: str
    answer: str
    unanswered: str
    unknown: str
    unsure: str
    asked: tuple[str, ...] = ()
    named: bool = False

    @property
    def grammar(self) -> str:
        """In llguidance's Lark: a text in the letters of this language, in which names may be in Latin ones."""
        letters = _LETTERS.get(self.script, rf"\p{{{self.script.capitalize()}}}")
        return rf"start: /\P{{L}}*[{letters}][\P{{L}}\p{{Common}}A-Za-z{letters}]*/"


@cache
def languages() -> dict[str, Language]:
    """All languages by their codes."""
    text = resources.files("langchain_qwen.personas").joinpath("data/languages.yaml").read_text(encoding="utf-8")
    return {code: Language(code=code, **entry) for code, entry in yaml.safe_load(text).items()}


def language_of(name: str) -> Language:
    """The language of a code ("de", "pt-BR"), or of its English or own name ("German", "Deutsch").

    Raises:
        PersonaError: For one that is not in the table.
    """
    table = languages()
    key = name.strip().lower()
    code = re.split("[-_]", key)[0]
    if code in table:
        return table[code]
    for language in table.values():
        if key in (language.english.lower(), language.native.lower()):
            return language
    raise PersonaError(f"language {name!r} is not known; choose 'auto' or one of: {', '.join(sorted(table))}")


def wanted_language(messages: Sequence[BaseMessage]) -> Language | None:
    """The language that the latest message of the user asks for, or else is written in.

    Where that message is too short to tell, an earlier one decides; None where none can tell.
    """
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            code = requested(message.text) or question_language(message.text)
            if code:
                return languages()[code]
    return None


def question_language(text: str) -> str | None:
    """The code of the language of what is asked in a text, which may quote other text in other languages.

    People put what they ask into the last paragraph, or, before a long quotation, into the first one. So the last
    paragraph decides if it is not much longer than the first one.
    """
    paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n|\n(?=\w+\s*[::])", text) if paragraph.strip()]
    if len(paragraphs) > 1 and len(paragraphs[-1]) > 4 * len(paragraphs[0]):
        paragraphs.append(paragraphs[0])
    for part in (*reversed(paragraphs[-1:]), text):
        # "Frage: Who was he?" is asked in English.
        label = re.match(r"\s*\w+\s*[::]\s*", part)
        code = detect(part[label.end() :] if label else part).code
        if code:
            return code
    return None


def reply_language(question: str) -> Language:
    """The language to say something about a question in: its own, or English where that cannot be told."""
    return wanted_language([HumanMessage(question)]) or languages()["en"]


def requested(text: str) -> str | None:
    """The code of a language that a text asks the answer to be in, in words; None for none."""
    found = [(match.end(), code) for code, pattern in _requests() for match in pattern.finditer(text)]
    return max(found)[1] if found else None


@cache
def _requests() -> list[tuple[str, re.Pattern[str]]]:
    verbs = r"answer|respond|response|reply|write|explain|translate|output|speak|say (?:it|that|this)"
    patterns = []
    for language in languages().values():
        # Not "how do you say it in German?", whose answer is in English.
        english = (
            rf"(?<!how to )(?<!do you )(?<!would you )\b(?:{verbs})\b[^.?!\n]{{0,60}}?\bin(?:to)? {language.english}\b"
        )
        native = [rf"(?<!\w){re.escape(phrase)}" for phrase in language.asked if phrase.isascii() or " " in phrase]
        native += [re.escape(phrase) for phrase in language.asked if not (phrase.isascii() or " " in phrase)]
        patterns.append((language.code, re.compile("|".join([english, *native]), re.IGNORECASE)))
    return patterns
