"""Audit events: what a policy decided, without the private text it decided about."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables import RunnableConfig

from langchain_qwen.forks import renewed_lock
from langchain_qwen.safety.filtering import Finding
from langchain_qwen.safety.policy import Policy

EVENT = "langchain_qwen.safety"
logger = logging.getLogger(EVENT)

Place = Literal["input", "system", "history", "tool_result", "output", "reasoning", "tool_call", "metadata"]
"""Where: what users, the application, the model (before) and tools or documents bring in; an answer's text, its
reasoning, its tool calls, and all else that it holds."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One decision.

    The span counts characters as they were before any edit: of the answer's text or reasoning, else of the one string
    that the finding begins in.
    """

    policy: str
    policy_version: str
    policy_hash: str
    rule: str
    category: str
    severity: str
    action: str
    start: int
    end: int
    place: Place

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for metadata and callbacks."""
        return asdict(self)


class Audit:
    """Turns findings into events, counts them, and tells logging and LangChain's callbacks (`on_custom_event`)."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._hash = policy.hash
        self._lock = renewed_lock(self, "_lock")
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How often which rule led to which action, since the start."""
        with self._lock:
            return Counter(self._counts)

    def record(self, findings: Iterable[Finding], place: Place) -> list[AuditEvent]:
        """Count findings, log them without their text, and give them as events."""
        events = [self._event(finding, place) for finding in findings]
        with self._lock:
            self._counts.update((event.rule, event.action) for event in events)
        for event in events:
            logger.info("%s %s by %s (policy %s)", event.place, event.action, event.rule, event.policy_hash)
        return events

    def _event(self, finding: Finding, place: Place) -> AuditEvent:
        rule, policy = finding.rule, self._policy
        return AuditEvent(
            policy.name,
            policy.version,
            self._hash,
            rule.id,
            rule.category.value,
            rule.severity.value,
            rule.action.value,
            finding.start,
            finding.end,
            place,
        )


def _has_run(config: RunnableConfig | None) -> bool:
    """Whether there is a run that a custom event could belong to."""
    callbacks = (config or {}).get("callbacks")
    return getattr(callbacks, "parent_run_id", None) is not None


def dispatch(events: Iterable[AuditEvent], config: RunnableConfig | None) -> None:
    """Tell the callbacks of the run, where there is one."""
    if _has_run(config):
        for event in events:
            dispatch_custom_event(EVENT, event.as_dict(), config=config)


async def adispatch(events: Iterable[AuditEvent], config: RunnableConfig | None) -> None:
    """Tell the callbacks of the run, where there is one."""
    if _has_run(config):
        for event in events:
            await adispatch_custom_event(EVENT, event.as_dict(), config=config)
