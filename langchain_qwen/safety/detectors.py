"""From a rule's detector to what runs: shipped detectors, patterns, lexicons, leakage, judges, functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from itertools import pairwise

import yaml

from langchain_qwen.errors import PolicyError
from langchain_qwen.safety.letters import fold_text
from langchain_qwen.safety.personal_data import PERSONAL_DATA
from langchain_qwen.safety.policy import JudgeSpec, LexiconSpec, PatternSpec, Rule
from langchain_qwen.safety.prefixes import WORD, python_set, words_pattern
from langchain_qwen.safety.scanning import Detector, Find, Span

SENTENCE = r"[^\n.!?]+"
_LONG_WORDS, _SHORT_WORDS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff", r"\u3040-\u30ff\u3400-\u9fff"
_UNSPACED = re.compile(f"[{_LONG_WORDS}{_SHORT_WORDS}]")
# A character of a script without blanks, or a word, with the signs of vowels that Python takes for no letters.
_WORDS = re.compile(rf"{_UNSPACED.pattern}|(?:(?!{_UNSPACED.pattern})[{python_set(WORD)}])+")
LEAK_WORDS = 7
"""As many words in a row as the system prompt has them count as leaked."""
_WEIGHT_OF_WORD = 4
"""As many characters of Thai and its like, or half as many Chinese and Japanese ones, weigh as much as a word."""
_RUNS_AT_ONCE = 256  # RE2 compiles in quadratic time, and not what is too large

Judge = Callable[[str, tuple[str, ...]], bool]


@cache
def lexicons() -> dict[str, list[str]]:
    """The shipped lists of words."""
    text = resources.files("langchain_qwen.safety").joinpath("lexicons.yaml").read_text("utf-8")
    loaded: dict[str, list[str]] = yaml.safe_load(text)
    return loaded


def lexicon_detectors(name: str, words: Iterable[str]) -> list[Detector]:
    """Detectors of words: whole words where a script has spaces between them, any place where not."""
    folded = {fold_text(word.strip()) for word in words} - {""}
    loose = {w for w in folded if _UNSPACED.search(w) or not (w[0].isalnum() and w[-1].isalnum())}
    detectors = []
    if folded - loose:
        detectors.append(Detector(name, words_pattern(folded - loose), guard=WORD))
    if loose:
        detectors.append(Detector(name, words_pattern(loose)))
    if not detectors:
        raise PolicyError(f"the lexicon of {name!r} has no words")
    return detectors


def leak_detectors(system_prompt: str | None, canary: str | None) -> list[Detector]:
    """Runs of words of the system prompt, and a canary planted in it."""
    words = _WORDS.findall(fold_text(system_prompt or ""))
    spaced: list[str] = []
    loose: list[str] = []
    for run in sorted(set(_runs(words))):
        (loose if _UNSPACED.match(run[0]) or _UNSPACED.match(run[-1]) else spaced).append(_run_pattern(run))
    detectors = [
        Detector("prompt_leak", "|".join(some[at : at + _RUNS_AT_ONCE]), guard=guard)
        for some, guard in ((spaced, WORD), (loose, ""))
        for at in range(0, len(some), _RUNS_AT_ONCE)
    ]
    if canary:
        detectors.append(Detector("prompt_leak", re.escape(fold_text(canary))))
    return detectors


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    """From each word on, as few words in a row as count; all of a prompt that is shorter."""
    weights = [_weight(word) for word in words]
    enough = min(LEAK_WORDS * _WEIGHT_OF_WORD, sum(weights))
    end = weight = passed = 0
    for start in range(len(words)):
        while weight < enough and end < len(words):
            weight += weights[end]
            end += 1
        if weight < enough:
            break
        if passed <= 0:  # of single characters, not from each one on
            yield tuple(words[start:end])
            passed = _WEIGHT_OF_WORD
        passed -= weights[start]
        weight -= weights[start]


def _weight(word: str) -> int:
    if re.match(f"[{_LONG_WORDS}]", word):
        return 1
    return 2 if _UNSPACED.match(word) else _WEIGHT_OF_WORD


def _run_pattern(run: tuple[str, ...]) -> str:
    pattern = re.escape(run[0])
    for before, word in pairwise(run):
        few = _UNSPACED.match(before) or _UNSPACED.match(word)
        pattern += (r"[\n -/:-@]?" if few else r"[^\w]{1,4}") + re.escape(word)
    return pattern


def build_detectors(
    rule: Rule,
    *,
    system_prompt: str | None = None,
    canary: str | None = None,
    judge: Judge | None = None,
    custom: Mapping[str, Detector | Find] | None = None,
) -> list[Detector]:
    """The detectors of a rule; none where it looks for leaks and there is nothing to leak.

    Raises:
        PolicyError: For a detector that does not exist, and for a judge without a model.
    """
    spec = rule.detector
    if isinstance(spec, PatternSpec):
        return [Detector(rule.id, spec.pattern, guard=WORD if spec.whole_words else "")]
    if isinstance(spec, LexiconSpec):
        return lexicon_detectors(rule.id, _words(spec.lexicon))
    if isinstance(spec, JudgeSpec):
        return [_judged(rule.id, spec, judge)]
    if spec == "prompt_leak":
        return leak_detectors(system_prompt, canary)
    if custom and spec in custom:
        found = custom[spec]
        # A function is asked about a line once.
        return [found if isinstance(found, Detector) else Detector(spec, find=found, unmasked=False)]
    shipped = [detector for detector in PERSONAL_DATA if detector.name == spec]
    if not shipped:
        known = ", ".join(sorted({*(detector.name for detector in PERSONAL_DATA), "prompt_leak", *(custom or ())}))
        raise PolicyError(f"rule {rule.id!r}: there is no detector {spec!r}; known are: {known}")
    return shipped


def _words(lexicon: str | tuple[str, ...]) -> Iterable[str]:
    if not isinstance(lexicon, str):
        return lexicon
    if lexicon not in lexicons():
        raise PolicyError(f"there is no lexicon {lexicon!r}; shipped are: {', '.join(sorted(lexicons()))}")
    return lexicons()[lexicon]


def _judged(name: str, spec: JudgeSpec, judge: Judge | None) -> Detector:
    if judge is None:
        raise PolicyError(f"rule {name!r} asks a judge: give a model, as in SafetyParser(policy, judge=model)")
    categories = tuple(category.value for category in spec.judge)
    cheap = None if spec.unsure_at is None else lexicon_detectors(name, _words(spec.unsure_at))

    def find(candidate: str) -> list[Span]:
        if cheap is not None and not any(d.compiled.matches.search(f"\n{candidate}\n".encode()) for d in cheap):
            return []
        return [(0, len(candidate))] if judge(candidate, categories) else []

    return Detector(name, SENTENCE, find, unmasked=False, whole=cheap is None)
