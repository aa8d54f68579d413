"""What of a history is sent: the state that trimming changes.

A history is read as segments (see `counting.py`) and turns: a turn is a question, which may be several messages in a
row, and all that follows until the next question. System messages belong to no turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_qwen.history.counting import PromptCounter, Tool, role_of
from langchain_qwen.history.marks import is_pinned, is_summary, summary_message

SYSTEM_TURN = -1


@dataclass(slots=True, eq=False)
class Segment:
    """One message, or an AI message with the results of its calls.

    Attributes:
        messages: As they are sent, with cleared results and shortened texts.
        places: Where the messages stand in the history.
        tokens: What they add to the prompt.
        role: Of the first message.
        turn: Number of its turn; `SYSTEM_TURN` for system messages.
        cleared: Places of messages whose content was cleared.
    """

    messages: tuple[BaseMessage, ...]
    places: tuple[int, ...]
    tokens: int
    role: str
    turn: int
    cleared: tuple[int, ...] = ()

    @property
    def has_results(self) -> bool:
        """Whether tools answered here."""
        return any(isinstance(message, ToolMessage) for message in self.messages)

    @property
    def asks(self) -> bool:
        """Whether a model may be called behind this segment."""
        return self.role in ("user", "tool") or len(self.messages) > 1


@dataclass(slots=True, eq=False)
class View:
    """The segments that are sent, with their tokens kept up to date."""

    counter: PromptCounter
    tools: Sequence[Tool]
    pin_first: int = 0
    lead: list[Segment] = field(default_factory=list)
    summaries: list[Segment] = field(default_factory=list)
    body: list[Segment] = field(default_factory=list)
    pinned_turns: set[int] = field(default_factory=set)
    turn: int = 0
    read: int = 0
    first_system: BaseMessage | None = None
    _all_tokens: int = 0
    _body_tokens: int = 0
    _last_role: str = "system"
    _headed: tuple[BaseMessage | None, int] | None = None

    def add(self, message: BaseMessage) -> None:
        """Read the next message of the history."""
        role = role_of(message)
        place, self.read = self.read, self.read + 1
        if role == "tool" and self.open_for_results and self.body:
            self._extend(message, place)
        else:
            self._append(message, place, role)
        if role != "system" and (is_pinned(message) or place - len(self.summaries) < self.pin_first):
            self.pinned_turns.add(self.turn)
        self._last_role = role

    def _extend(self, message: BaseMessage, place: int) -> None:
        last = self.body[-1]
        assert last.tokens < 0, "a counted segment is complete"
        last.messages += (message,)
        last.places += (place,)

    def _append(self, message: BaseMessage, place: int, role: str) -> None:
        self.close()
        if role == "system":
            segment = Segment((message,), (place,), 0, role, SYSTEM_TURN)
            if is_summary(message):
                self.summaries.append(segment)
                return self._settle(segment)
            if not self.body:
                self.lead.append(segment)
                return self._settle(segment)
        elif role == "user" and self._last_role != "user":
            self.turn += 1
        self.body.append(Segment((message,), (place,), -1, role, SYSTEM_TURN if role == "system" else self.turn))
        return None

    def close(self) -> None:
        """Count the last segment, now that it is complete."""
        if self.body and self.body[-1].tokens < 0:
            self._settle(self.body[-1])
            self._body_tokens += self.body[-1].tokens

    def _settle(self, segment: Segment) -> None:
        segment.tokens = self.counter.segment(segment.messages)
        self._all_tokens += segment.tokens
        if segment.places == (0,) and segment.role == "system":
            self.first_system = segment.messages[0]
            self._all_tokens = 0  # it is part of the head

    @property
    def tokens(self) -> int:
        """Tokens of the prompt that `messages` make, exactly."""
        front = self._front()
        if front:
            return self._head(front[0].messages[0]) + sum(segment.tokens for segment in front[1:]) + self._body_tokens
        if self.body and self.body[0].role == "system":
            return self._head(self.body[0].messages[0]) + self._body_tokens - self.body[0].tokens
        return self._head(None) + self._body_tokens

    @property
    def fixed_tokens(self) -> int:
        """Tokens of a prompt with nothing but system messages and pinned turns, which stay in any case."""
        fixed = [s for s in (*self.lead, *self.body) if s.turn == SYSTEM_TURN or s.turn in self.pinned_turns]
        headed = bool(fixed) and fixed[0].role == "system"
        head = self._head(fixed[0].messages[0] if headed else None)
        return head + sum(segment.tokens for segment in fixed[headed:])

    @property
    def tokens_before(self) -> int:
        """Tokens of the prompt with all that was read."""
        return self.counter.head(self.first_system, self.tools) + self._all_tokens

    @property
    def open_for_results(self) -> bool:
        """Whether a tool result would join the last segment."""
        return self._last_role in ("assistant", "tool")

    def _front(self) -> list[Segment]:
        return [*self.lead, *self.summaries]

    def _head(self, first: BaseMessage | None) -> int:
        if self._headed is None or self._headed[0] is not first:
            self._headed = (first, self.counter.head(first, self.tools))
        return self._headed[1]

    def messages(self) -> list[BaseMessage]:
        """What is sent."""
        return [message for segment in (*self.lead, *self.summaries, *self.body) for message in segment.messages]

    def sent(self, history: Sequence[BaseMessage]) -> list[BaseMessage]:
        """As `messages`, made of those of this history: others that say the same may have been read in their place."""
        found: list[BaseMessage] = []
        for segment in (*self.lead, *self.summaries, *self.body):
            if not segment.places:  # a summary that was made here
                found += segment.messages
            for place, message in zip(segment.places, segment.messages, strict=False):
                own = history[place]
                if message.content != own.content:
                    nothing = {"artifact": None} if place in segment.cleared else {}
                    own = own.model_copy(update={"content": message.content, **nothing})
                found.append(own)
        return found

    def rewrite(self, segment: Segment, messages: Iterable[BaseMessage], cleared: Iterable[int] = ()) -> int:
        """Write other contents into a segment; returns how many tokens that saves."""
        messages = tuple(messages)
        saved = segment.tokens - self.counter.segment(messages)
        segment.messages = messages
        segment.tokens -= saved
        segment.cleared += tuple(cleared)
        self._body_tokens -= saved
        return saved

    def remove(self, gone: Sequence[Segment]) -> None:
        """Take segments out."""
        ids = set(map(id, gone))
        self.body = [segment for segment in self.body if id(segment) not in ids]
        self._body_tokens -= sum(segment.tokens for segment in gone)

    def summarize(self, text: str, *, fold: bool) -> Segment:
        """Add a block of summary, or put it in the place of all earlier ones."""
        message = summary_message(text)
        segment = Segment((message,), (), self.counter.segment((message,)), "system", SYSTEM_TURN)
        self.summaries = [segment] if fold else [*self.summaries, segment]
        return segment

    def last(self) -> Segment | None:
        """The last segment that is no system message."""
        return next((segment for segment in reversed(self.body) if segment.turn != SYSTEM_TURN), None)

    def candidates(self) -> list[list[Segment]]:
        """What may be removed, the oldest first: whole turns, then steps of the open turn, but never the last one."""
        turns: dict[int, list[Segment]] = {}
        steps: list[list[Segment]] = []
        last = self.last()
        for segment in self.body:
            if segment.turn == SYSTEM_TURN or segment.turn in self.pinned_turns:
                continue
            if segment.turn < self.turn:
                turns.setdefault(segment.turn, []).append(segment)
            elif len(segment.messages) > 1 and segment is not last:  # a call with its results
                steps.append([segment])
        return [*turns.values(), *steps]

    def copy(self) -> View:
        """A view that can be changed without changing this one."""
        lead, summaries, body = (list(map(replace, part)) for part in (self.lead, self.summaries, self.body))
        return replace(self, lead=lead, summaries=summaries, body=body, pinned_turns=set(self.pinned_turns))
