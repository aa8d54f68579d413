"""Whether an answer follows the instructions of an IFEval row.

Written from the published definitions (Zhou et al. 2023, arXiv:2311.07911, and google-research's instructions.py), all
25 kinds, strict. Three tools differ: languages are told by fastText instead of langdetect, sentences and words are
counted by rules of our own instead of NLTK's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from benchmarks.common import Row
from benchmarks.judging import language_of_text
from langchain_qwen.personas.sentences import count_sentences

Check = Callable[..., bool]

_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")


def follows(row: Row, answer: str) -> list[bool]:
    """Which of the row's instructions the answer follows; an empty answer follows none."""
    results = []
    for kind, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        arguments = {name: value for name, value in given.items() if value is not None}
        results.append(bool(answer.strip()) and CHECKS[kind](answer, **arguments))
    return results


def _compare(count: int, relation: str, limit: int) -> bool:
    return count < limit if relation == "less than" else count >= limit


def _existence(answer: str, keywords: list[str]) -> bool:
    return all(re.search(keyword, answer, re.IGNORECASE) for keyword in keywords)


def _frequency(answer: str, keyword: str, frequency: int, relation: str) -> bool:
    return _compare(len(re.findall(keyword, answer, re.IGNORECASE)), relation, frequency)


def _forbidden(answer: str, forbidden_words: list[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", answer, re.IGNORECASE) for word in forbidden_words)


def _letters(answer: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compare(answer.lower().count(letter.lower()), let_relation, let_frequency)


def _language(answer: str, language: str) -> bool:
    return language_of_text(answer) in (None, language)


def _sentences(answer: str, num_sentences: int, relation: str) -> bool:
    return _compare(count_sentences(answer), relation, num_sentences)


def _words(answer: str, num_words: int, relation: str) -> bool:
    return _compare(len(re.findall(r"\w+", answer)), relation, num_words)


def _paragraphs(answer: str, num_paragraphs: int) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", answer)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    return sum(bool(part.strip()) for part in parts) == num_paragraphs


def _first_word(answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = answer.split("\n\n")
    filled = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > filled or not parts[nth_paragraph - 1].strip():
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return filled == num_paragraphs and re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def _placeholders(answer: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


def _postscript(answer: str, postscript_marker: str) -> bool:
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    pattern = patterns.get(postscript_marker, rf"\s*{postscript_marker.lower()}.*$")
    return bool(re.search(pattern, answer.lower(), re.MULTILINE))


def _bullets(answer: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", answer, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def _constrained(answer: str) -> bool:
    return any(option in answer.strip() for option in _OPTIONS)


def _highlights(answer: str, num_highlights: int) -> bool:
    single = [part for part in re.findall(r"\*[^\n\*]*\*", answer) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n\*]*\*\*", answer) if part[2:-2].strip()]
    return len(single) + len(double) >= num_highlights


def _sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{section_spliter}\s?\d+\s?", answer)) - 1 >= num_sections


def _json(answer: str) -> bool:
    text = re.sub(r"\A```(?:json|Json|JSON)?|```\Z", "", answer.strip()).strip()
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _title(answer: str) -> bool:
    return any(title[2:-2].strip() for title in re.findall(r"<<[^\n]+>>", answer))


def _two_responses(answer: str) -> bool:
    parts = answer.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    filled = [part.strip() for part in parts if part.strip()]
    return len(filled) == 2 and filled[0] != filled[1]


def _repeats(answer: str, prompt_to_repeat: str) -> bool:
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends_with(answer: str, end_phrase: str) -> bool:
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _capitals(answer: str) -> bool:
    return answer.isupper() and language_of_text(answer) in (None, "en")


def _lowercase(answer: str) -> bool:
    return answer.islower() and language_of_text(answer) in (None, "en")


def _capital_words(answer: str, capital_frequency: int, capital_relation: str) -> bool:
    return _compare(sum(word.isupper() for word in _WORD.findall(answer)), capital_relation, capital_frequency)


def _no_comma(answer: str) -> bool:
    return "," not in answer


def _quoted(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


CHECKS: dict[str, Check] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends_with,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capitals,
    "change_case:english_lowercase": _lowercase,
    "punctuation:no_comma": _no_comma,
}


def enforceable(row: Row) -> dict[str, Any]:
    """The fields of a persona that enforce the row's own instructions; none where no form or language does.

    A form takes the whole answer, so it is used only where the other instructions of the row leave room for it.
    """
    fields: dict[str, Any] = {}
    room_for_form = all(kind.split(":")[0] in ("keywords", "language", "punctuation") for kind in _without_form(row))
    for kind, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        if kind == "language:response_language":
            fields["language"] = given["language"]
        elif room_for_form and (form := _form(kind, given)):
            fields["output"] = form
    return fields


def _form(kind: str, given: dict[str, Any]) -> dict[str, Any] | None:
    match kind:
        case "detectable_format:json_format":
            return {"kind": "json"}
        case "detectable_format:number_bullet_lists":
            return {"kind": "bullets", "at_least": given["num_bullets"], "at_most": given["num_bullets"]}
        case "detectable_format:constrained_response":
            return {"kind": "labels", "labels": _OPTIONS}
        case "length_constraints:number_sentences" if given["relation"] == "less than":
            return {"kind": "sentences", "at_most": given["num_sentences"] - 1}
    return None


def _without_form(row: Row) -> list[str]:
    pairs = zip(row["instruction_id_list"], row["kwargs"], strict=True)
    return [kind for kind, given in pairs if _form(kind, given) is None]
