"""What leaves: findings of all rules resolved against each other, edits made, the undecided end held back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from langchain_qwen.safety.policy import Action, Rule, Severity
from langchain_qwen.safety.pseudonyms import Pseudonyms
from langchain_qwen.safety.scanning import DOUBT, Detector, Match, TextScanner, steps

RuleDetectors = Sequence[tuple[Rule, Sequence[Detector]]]

HELD_BACK = 12_288
"""More characters than this never wait for a decision, but where a judge reads the whole text."""

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

    The whole-text meaning: findings that overlap are one (their union), under the rule with the strongest action, then
    the highest severity, then the first place. A finding within one of an `allow` rule is dropped. `flag` changes
    nothing. What touches the finding before it, under the same rule, is a part of it. A union of more than `DOUBT`
    characters ends there.
    `stop` and `block` end the text where their finding begins.
    """

    def __init__(self, rules: RuleDetectors, *, as_json: bool = False, pseudonyms: Pseudonyms | None = None):
        self._pseudonyms = pseudonyms or Pseudonyms()
        self._rules = [rule for rule, detectors in rules for _ in detectors]
        self._scanner = TextScanner([d for _, detectors in rules for d in detectors], as_json=as_json)
        self._as_json = as_json
        self._raw: list[str] = []
        self._read = 0
        self._sent = 0
        self._found: list[Finding] = []
        self._last: tuple[int, Rule] | None = None
        self.ended_by: Finding | None = None

    @property
    def held_back(self) -> int:
        """Characters that have come in and are not decided yet."""
        return self._read - self._sent

    def feed(self, piece: str, *, final: bool = False) -> Filtered:
        """Read on; give all clean text that no later piece can change."""
        result = Filtered([], [])
        for part, last in [*((part, False) for part in steps(piece, self._read)), *([("", True)] if final else [])]:
            if self.ended_by:
                break
            step = self._step(part, final=last)
            result.parts += step.parts
            result.findings += step.findings
        result.ended_by = self.ended_by
        return result

    def _step(self, piece: str, *, final: bool) -> Filtered:
        self._raw.append(piece)
        self._read += len(piece)
        self._found += [_finding(self._rules[n], match) for n, match in self._scanner.feed(piece, final=final)]
        certain = self._scanner.certain
        if certain <= self._sent and not final:
            return Filtered([], [])
        kept = _without_allowed(self._found)
        groups = _overlapping([f for f in kept if f.rule.action is not Action.FLAG], self._sent)
        limit = min(certain, next((start for start, end, _ in groups if end > certain), certain))
        out: list[Part] = []
        reported: list[Finding] = []
        for start, end, finding in groups:
            if start >= limit:
                break
            out.append(self._take(start))
            goes_on = self._last == (start, finding.rule)
            if not goes_on:
                reported.append(finding)
            if finding.rule.action in _ENDING:
                self.ended_by, limit = finding, start
                break
            original = self._take(end).text
            if not goes_on:
                out.append(Part(start, self._replacement(finding, original), edited=True))
            elif finding.rule.action is Action.MASK:
                out.append(Part(start, _masked(original), edited=True))
            self._last = end, finding.rule
        if not self.ended_by:
            out.append(self._take(limit))
        reported += [f for f in kept if f.rule.action is Action.FLAG and f.start < limit]
        self._found = [f for f in self._found if (f.start + 1 if f.rule.action is Action.FLAG else f.end) > limit]
        reported.sort(key=lambda f: (f.start, f.end, f.rule.id))
        return Filtered([part for part in out if part.text], reported)

    def _take(self, until: int) -> Part:
        """The original text up to a place, which then counts as sent."""
        count = max(until - self._sent, 0)
        if not count:
            return Part(self._sent, "", edited=False)
        raw = "".join(self._raw)
        self._raw = [raw[count:]]
        taken = Part(self._sent, raw[:count], edited=False)
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
        return _masked(original, shown=min(4, len(original) // 2))
    return rule.replacement if rule.replacement is not None else f"[{label}]"


def _finding(rule: Rule, match: Match) -> Finding:
    return Finding(rule, match.start, match.end, match.text, match.quoted)


def _masked(original: str, shown: int = 0) -> str:
    hidden = len(original) - shown
    return "".join("*" if c.isalnum() and i < hidden else c for i, c in enumerate(original))


def _without_allowed(findings: list[Finding]) -> list[Finding]:
    """Findings in their order, without those within an allowed one."""
    kept, allowed_until = [], 0
    for finding in sorted(findings, key=lambda f: (f.start, f.rule.action is not Action.ALLOW, f.end, f.rule.id)):
        if finding.rule.action is Action.ALLOW:
            allowed_until = max(allowed_until, finding.end)
        elif finding.end > allowed_until:
            kept.append(finding)
    return kept


def _overlapping(findings: list[Finding], sent: int) -> list[tuple[int, int, Finding]]:
    """Unions of findings that overlap, each with the finding that decides; from the place up to which all is sent."""
    groups: list[tuple[int, int, Finding]] = []
    for finding in findings:
        start, end, first = groups[-1] if groups else (0, sent, finding)
        if groups and finding.start < min(end, start + DOUBT):
            groups[-1] = (start, max(end, finding.end), max(first, finding, key=_weight))
        elif finding.end > end:
            groups.append((max(finding.start, end), finding.end, finding))
    return groups


def _weight(finding: Finding) -> tuple[int, int]:
    return _ranks(finding.rule.action, finding.rule.severity)


@cache
def _ranks(action: Action, severity: Severity) -> tuple[int, int]:
    return action.strength, severity.rank
