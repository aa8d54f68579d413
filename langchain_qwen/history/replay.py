"""Where a history is cut: a function of the history alone.

The history is read message by message, as the conversation grew. Wherever a model may have been called and the prompt
was above the high mark, it is cut down to the low mark. So a cut stays where it is while the conversation grows from
the low mark to the high one, the beginning of the prompt stays the same, and a history that was loaded from a store is
cut like one that grew in this process.

`Replay.run` does no input or output: it yields requests for summaries and is sent texts or failures, so that one code
serves synchronous and asynchronous callers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_qwen.errors import ContextOverflowError
from langchain_qwen.history.counting import Key, key_of, role_of
from langchain_qwen.history.report import TrimReport
from langchain_qwen.history.shorten import shorten
from langchain_qwen.history.view import SYSTEM_TURN, Segment, View

Step = Literal["clear", "summarize", "drop"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers and rules of a trim; see `HistoryTrimmer`."""

    window: int
    budget: int
    high: int
    low: int
    steps: tuple[Step, ...]
    keep_results: int
    summary_tokens: int
    summaries_tokens: int
    oversize: Literal["error", "shorten"]


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """Messages to summarize.

    Attributes:
        messages: The beginning of the prompt as it was sent so far, so that its keys and values may still be cached.
        about: The messages in it that will go.
        fold: Whether the summary also takes the place of all earlier ones.
    """

    messages: tuple[BaseMessage, ...]
    about: tuple[BaseMessage, ...]
    fold: bool


@dataclass(frozen=True, slots=True)
class SummaryFailure:
    """Why there is no summary."""

    reason: str


Summarizing = Generator[SummaryRequest, "str | SummaryFailure", None]


@dataclass(slots=True)
class Replay:
    """A history as far as it was read, and what became of it; `decided` once the last message was seen to."""

    view: View
    limits: Limits
    keys: list[Key] = field(default_factory=list)
    summarized: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    shortened: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    prefix_kept: int = 0
    trimmed: bool = False
    decided: bool = False
    _turn: int = 0
    _hopeless: bool = False  # what came since a cut that failed cannot be cut away

    def copy(self) -> Replay:
        """A replay that can be run on without changing this one."""
        lists = {name: list(getattr(self, name)) for name in ("keys", "summarized", "dropped", "shortened", "failures")}
        return replace(self, view=self.view.copy(), **lists)  # type: ignore[arg-type]

    def run(self, messages: Iterable[BaseMessage]) -> Summarizing:
        """Read further messages of the history."""
        messages = list(messages)
        if not messages:
            return  # asked again: nothing has changed
        self.trimmed = False
        for message in messages:
            if self._completes(message):
                yield from self._call_point()
            self.view.add(message)
            self._hopeless = self._hopeless and role_of(message) in ("user", "system") and self.view.turn == self._turn
            self.decided = False
            self.keys.append(key_of(message))
        self.view.close()
        if self._asks():
            yield from self._call_point()

    def finish(self) -> Summarizing:
        """Make what was read fit, also where it does not end in a question."""
        if self.view.tokens > self.limits.budget:
            yield from self._cut()
        if self.view.tokens > self.limits.budget:
            raise self._overflow()

    def report(self) -> TrimReport:
        """What became of the messages."""
        view = self.view
        sent = [*view.lead, *view.summaries, *view.body]
        kept = sorted(place for segment in sent for place in segment.places)
        parts = {"pinned": 0, "result": 0, "turn": 0}
        first = sent[0]
        for segment in (*view.lead, *view.body):
            if segment is first and segment.role == "system":
                continue  # a part of the head
            pinned = segment.turn == SYSTEM_TURN or segment.turn in view.pinned_turns
            parts["pinned" if pinned else "result" if segment.has_results else "turn"] += segment.tokens
        summary_tokens = sum(block.tokens for block in view.summaries if block is not first)
        return TrimReport(
            kept=tuple(kept),
            cleared=tuple(place for segment in view.body for place in segment.cleared),
            summarized=tuple(sorted(self.summarized)),
            dropped=tuple(sorted(self.dropped)),
            shortened=tuple(sorted({*self.shortened} & {*kept})),
            tokens_before=view.tokens_before,
            tokens_after=view.tokens,
            budget=self.limits.budget,
            window=self.limits.window,
            head_tokens=view.tokens - summary_tokens - sum(parts.values()),
            summary_tokens=summary_tokens,
            pinned_tokens=parts["pinned"],
            result_tokens=parts["result"],
            turn_tokens=parts["turn"],
            prefix_kept=self.prefix_kept,
            trimmed=self.trimmed,
            summary_failures=tuple(self.failures),
        )

    def _asks(self) -> bool:
        return not self.decided and bool(self.view.body) and self.view.body[-1].asks

    def _completes(self, message: BaseMessage) -> bool:
        return self._asks() and role_of(message) != "tool"

    def _call_point(self) -> Summarizing:
        self.view.close()
        self.decided = True
        self.trimmed = False
        self.prefix_kept = self.view.tokens - self.view.body[-1].tokens - self.view.counter.opening
        if self.view.tokens > self.limits.high and not self._hopeless:
            yield from self._cut()
            self._give_up()

    def _give_up(self) -> None:
        """Where a cut fails, do not try again with each message that makes the prompt longer.

        Raises:
            ContextOverflowError: If what is never cut is too large, for then no later cut can do better.
        """
        self._hopeless, self._turn = self.view.tokens > self.limits.budget, self.view.turn
        if self._hopeless and self.view.fixed_tokens > self.limits.budget:
            raise self._overflow("at least ")

    def _cut(self) -> Summarizing:
        before = self.view.messages()
        for step in self.limits.steps:
            if self.view.tokens <= self.limits.low:
                break
            if step == "clear":
                self._clear()
            elif step == "summarize":
                yield from self._summarize()
            else:
                self._drop(self._enough(self.limits.low))
        if self.view.tokens > self.limits.budget and self.limits.oversize == "shorten":
            self.shortened.extend(shorten(self.view, self.limits.budget))
        self.trimmed = self.view.messages() != before
        if self.trimmed:
            self.prefix_kept = self._common(before)

    def _clear(self) -> None:
        removable = [segment for atom in self.view.candidates() for segment in atom]
        last = self.view.last()
        if last is not None and last.turn not in self.view.pinned_turns and last not in removable:
            removable.append(last)
        results = [
            (segment, place)
            for segment in removable
            for place, message in zip(segment.places, segment.messages, strict=True)
            if isinstance(message, ToolMessage)
        ]
        clearable: dict[int, tuple[Segment, list[int]]] = {}
        for segment, place in results[: max(0, len(results) - self.limits.keep_results)]:
            at = place - segment.places[0]  # a message and its results follow each other
            text = segment.messages[at].text
            if place not in segment.cleared and len(_note(text)) < len(text.encode("utf-8", "surrogatepass")):
                clearable.setdefault(id(segment), (segment, []))[1].append(at)
        for segment, all_at in clearable.values():
            if self.view.tokens <= self.limits.low:
                return
            self._clear_in(segment, all_at)

    def _clear_in(self, segment: Segment, clearable: Sequence[int]) -> None:
        """Clear as few of a segment's results as needed, the oldest first, or all where that is not enough."""
        room = segment.tokens - (self.view.tokens - self.limits.low)
        low, high = 0, len(clearable)  # `high` are enough, or all there are
        while low + 1 < high:
            middle = (low + high) // 2
            if self.view.counter.segment(_cleared(segment, clearable[:middle])) <= room:
                high = middle
            else:
                low = middle
        gone = clearable[:high]
        messages = _cleared(segment, gone)
        if self.view.counter.segment(messages) < segment.tokens:
            self.view.rewrite(segment, messages, cleared=[segment.places[at] for at in gone])

    def _summarize(self) -> Summarizing:
        gone = self._enough(self.limits.low - self.limits.summary_tokens)
        if sum(segment.tokens for segment in gone) <= 2 * self.limits.summary_tokens:
            return  # the summary would be about as long
        fold = sum(block.tokens for block in self.view.summaries) + self.limits.summary_tokens > (
            self.limits.summaries_tokens
        )
        last = max(gone[-1].places)
        sent = [*self.view.lead, *self.view.summaries, *(s for s in self.view.body if s.places[0] <= last)]
        answer = yield SummaryRequest(_messages(sent), _messages(gone), fold=fold and bool(self.view.summaries))
        if isinstance(answer, SummaryFailure):
            self.failures.append(answer.reason)
            self._drop(self._enough(self.limits.low))
            return
        self.view.remove(gone)
        self.view.summarize(answer, fold=fold)
        self.summarized.extend(_places(gone))

    def _enough(self, target: int) -> list[Segment]:
        """The oldest that can go, so many that the rest has `target` tokens."""
        gone: list[Segment] = []
        excess = self.view.tokens - target
        for atom in self.view.candidates():
            if excess <= 0:
                break
            gone.extend(atom)
            excess -= sum(segment.tokens for segment in atom)
        return gone

    def _drop(self, gone: Sequence[Segment]) -> None:
        self.view.remove(gone)
        self.dropped.extend(_places(gone))

    def _common(self, before: Sequence[BaseMessage]) -> int:
        """Tokens of the whole messages that the prompt before and after a cut begin with alike."""
        old, tokens = iter(before), 0
        parts = [*self.view.lead, *self.view.summaries, *self.view.body]
        for position, segment in enumerate(parts):
            if any(message is not next(old, None) for message in segment.messages):
                return tokens
            if position == 0:
                is_head = segment.role == "system"
                tokens = self.view.counter.head(segment.messages[0] if is_head else None, self.view.tools)
                tokens -= self.view.counter.opening
                if is_head:
                    continue
            tokens += segment.tokens
        return tokens

    def _overflow(self, at_least: str = "") -> ContextOverflowError:
        view, limits = self.view, self.limits
        largest = max((*view.lead, *view.summaries, *view.body), key=lambda segment: segment.tokens)
        reserved = limits.window - limits.budget
        return ContextOverflowError(
            f"after all steps ({', '.join(limits.steps) or 'none'}) the prompt has {at_least}{view.tokens} tokens, "
            f"but the budget is {limits.budget} (a window of {limits.window} less {reserved} for answers); the largest "
            f"message left, messages[{largest.places[0] if largest.places else 'summary'}], has {largest.tokens}. "
            'Shorten or unpin messages, reserve less, or set oversize="shorten"',
            prompt_tokens=view.tokens,
            reserved_tokens=reserved,
            context_window=limits.window,
        )


def _note(text: str) -> str:
    return f"[result of {len(text):,} characters cleared]"


def _cleared(segment: Segment, places: Sequence[int]) -> tuple[BaseMessage, ...]:
    messages = list(segment.messages)
    for at in places:
        messages[at] = messages[at].model_copy(update={"content": _note(messages[at].text), "artifact": None})
    return tuple(messages)


def _places(segments: Iterable[Segment]) -> list[int]:
    return [place for segment in segments for place in segment.places]


def _messages(segments: Iterable[Segment]) -> tuple[BaseMessage, ...]:
    return tuple(message for segment in segments for message in segment.messages)
