"""What leaves: findings of all rules resolved against each other, edits made, the undecided end held back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from langchain_qwen.safety.policy import Action, Rule
from langchain_qwen.safety.pseudonyms import Pseudonyms
from langchain_qwen.safety.scanning import Detector, DetectorStream, Match

RuleDetectors = Sequence[tuple[Rule, Sequence[Detector]]]

LONGEST_UNION = 4096
"""Findings that overlap are taken together up to this many characters, so that no chain of them is held without end."""
_PIECE = 2048
_ENDING = (Action.STOP, Action.BLOCK)


@dataclass(frozen=True, slots=True)
class Finding:
    """A place in the original text, and the rule that applies to it.

    Attributes:
        rule: The rule.
        start: Where it begins in the original text.
        end: Where it ends.
        text: The folded text. May be private: it never goes into audit events.
    """

    rule: Rule
    start: int
    end: int
    text: str = field(repr=False)
    quoted: bool = field(default=False, repr=False)


class Part(NamedTuple):
    """A stretch of clean text: as it was, or what stands in place of a finding.

    Attributes:
        start: Where in the original text it, or the finding, begins.
        text: The clean text.
        edited: Whether it replaces a finding.
    """

    start: int
    text: str
    edited: bool


@dataclass(slots=True)
class Filtered:
    """The next piece of clean text, with what was found up to its end."""

    parts: list[Part]
    findings: list[Finding]
    ended_by: Finding | None = None

    @property
    def text(self) -> str:
        """The clean text."""
        return "".join(part.text for part in self.parts)


class TextFilter:
    """Filters one text that arrives in pieces.

    The whole-text meaning: findings that overlap are one (their union, up to `LONGEST_UNION`), under the rule with the
    strongest action, then the highest severity, then the first place. A finding within one of an `allow` rule is
    dropped. `flag` changes nothing.
    `stop` and `block` end the text where their finding begins.
    """

    def __init__(self, rules: RuleDetectors, *, as_json: bool = False, pseudonyms: Pseudonyms | None = None):
        self._pseudonyms = pseudonyms or Pseudonyms()
        self._streams = [
            (rule, DetectorStream(detector, as_json=as_json)) for rule, detectors in rules for detector in detectors
        ]
        self._as_json = as_json
        self._raw = ""
        self._sent = 0
        self._found: list[Finding] = []
        self.ended_by: Finding | None = None

    @property
    def held_back(self) -> int:
        """Characters that have come in and are not decided yet."""
        return len(self._raw)

    def feed(self, piece: str, *, final: bool = False) -> Filtered:
        """Read on; give all clean text that no later piece can change."""
        result = Filtered([], [])
        pieces = [piece[at : at + _PIECE] for at in range(0, len(piece), _PIECE)] or [""]
        for number, part in enumerate(pieces):
            if self.ended_by:
                break
            step = self._step(part, final=final and number == len(pieces) - 1)
            result.parts += step.parts
            result.findings += step.findings
        result.ended_by = self.ended_by
        return result

    def _step(self, piece: str, *, final: bool) -> Filtered:
        self._raw += piece
        certain = self._sent + len(self._raw)
        for rule, stream in self._streams:
            for match in stream.feed(piece, final=final):
                self._found.append(_finding(rule, match))
            certain = min(certain, stream.certain)
        kept = _without_allowed(self._found)
        groups = _overlapping([f for f in kept if f.rule.action is not Action.FLAG], self._sent)
        limit = min(certain, next((start for start, end, _ in groups if end > certain), certain))
        out: list[Part] = []
        reported: list[Finding] = []
        for start, end, finding in groups:
            if start >= limit:
                break
            out.append(self._take(start))
            reported.append(finding)
            if finding.rule.action in _ENDING:
                self.ended_by, limit = finding, start
                break
            original = self._take(end).text
            out.append(Part(start, self._replacement(finding, original), edited=True))
        if not self.ended_by:
            out.append(self._take(limit))
        reported += [f for f in kept if f.rule.action is Action.FLAG and f.start < limit]
        self._found = [f for f in self._found if (f.start + 1 if f.rule.action is Action.FLAG else f.end) > limit]
        reported.sort(key=lambda f: (f.start, f.end, f.rule.id))
        return Filtered([part for part in out if part.text], reported)

    def _take(self, until: int) -> Part:
        """The original text up to a place, which then counts as sent."""
        count = max(until - self._sent, 0)
        taken, self._raw = Part(self._sent, self._raw[:count], edited=False), self._raw[count:]
        self._sent += count
        return taken

    def _replacement(self, finding: Finding, original: str) -> str:
        if not self._as_json:
            return replacement(finding, original, self._pseudonyms)
        escaped = json.dumps(replacement(finding, finding.text, self._pseudonyms), ensure_ascii=False)
        return escaped[1:-1] if finding.quoted else escaped


def replacement(finding: Finding, original: str, pseudonyms: Pseudonyms) -> str:
    """What stands in place of a finding."""
    rule, label = finding.rule, (finding.rule.replacement or finding.rule.id.upper()).strip("[]")
    if rule.action is Action.REWRITE:
        return rule.replacement or ""
    if rule.action is Action.HASH:
        return f"[{label}:{pseudonyms.tag(finding.text)}]"
    if rule.action is Action.MASK:
        hidden = max(len(original) - 4, (len(original) + 1) // 2)
        return "".join("*" if c.isalnum() and i < hidden else c for i, c in enumerate(original))
    return rule.replacement if rule.replacement is not None else f"[{label}]"


def _finding(rule: Rule, match: Match) -> Finding:
    return Finding(rule, match.start, match.end, match.text, match.quoted)


def _without_allowed(findings: list[Finding]) -> list[Finding]:
    allowed = [f for f in findings if f.rule.action is Action.ALLOW]
    return [
        f
        for f in findings
        if f.rule.action is not Action.ALLOW and not any(a.start <= f.start and f.end <= a.end for a in allowed)
    ]


def _overlapping(findings: list[Finding], floor: int) -> list[tuple[int, int, Finding]]:
    """Unions of findings that overlap, each with the finding that decides; none begins before the floor.

    A union that has become too long is closed where its latest finding ends; what overlaps it goes on from there.
    """
    groups: list[tuple[int, int, Finding]] = []
    for finding in sorted(findings, key=lambda f: (f.start, f.end, f.rule.id)):
        start, end, first = groups[-1] if groups else (floor, floor, finding)
        if finding.start >= end:
            groups.append((finding.start, finding.end, finding))
        elif groups and (end - start < LONGEST_UNION or finding.end <= end):
            groups[-1] = (start, max(end, finding.end), max(first, finding, key=_weight))
        else:
            groups.append((end, finding.end, finding))
    return groups


def _weight(finding: Finding) -> tuple[int, int]:
    return finding.rule.action.strength, finding.rule.severity.rank
