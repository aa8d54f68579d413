"""What one call of the model generates, and again where that brings nothing: after tool results, and under a schema.

Small models make a call again whose result they have just been given, or answer nothing, until an agent gives up. So
after tool results the first pass is free, but a call that is answered already is withheld; where nothing else came, a
second pass asks for words: the same prompt with a hint behind it, and no calls possible.

An agent's `response_format` beside tools needs two passes too (see `plan_output`): under the schema alone small models
never call a tool and make its results up. Text of the first pass is not shown there; where it calls nothing, the
second pass answers under the schema.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_qwen.output import grammars
from langchain_qwen.output.pieces import CallArguments, CallEnd, CallStart, Piece, Reasoning, Text
from langchain_qwen.output.plan import Answered, OutputPlan

HINT = (
    "Answer the user in plain words from the tool results above. "
    "Call another tool only for something that no result says."
)
MOST_FAILURES = 3
"""So often a tool may fail for one question: the first call, and two with other arguments."""

_PREAMBLE = 200  # characters of text that is not shown, after which no call is waited for


def after_results(plan: OutputPlan, messages: Sequence[BaseMessage], hint: bool | str) -> OutputPlan:
    """The plan where tool results were just given; any other is returned as it is.

    Args:
        plan: That of the arguments alone.
        messages: The conversation.
        hint: The words behind the second prompt; True for those that were found best, False for no second pass.
    """
    if hint is False or not plan.calls or not messages or not isinstance(messages[-1], ToolMessage):
        return plan
    answered = _answered(messages, plan.repeatable)
    if not plan.forced:
        words = OutputPlan(
            plan.tools, grammars.text_without_calls(plan.tools), HINT if hint is True else hint, calls=False
        )
        return replace(plan, answered=answered, otherwise=plan.otherwise or words)
    # Some call must come. It is another tool's where this one has nothing new to say, if there is another.
    others = [tool for tool in plan.forced if tool["function"]["name"] not in answered.names]
    if not others or len(others) == len(plan.forced):
        return plan
    grammar = grammars.tool_calls(others, parallel=not plan.one_call)
    return replace(plan, answered=answered, otherwise=OutputPlan(plan.tools, grammar, one_call=plan.one_call))


def _answered(messages: Sequence[BaseMessage], repeatable: frozenset[str]) -> Answered:
    """The calls that were made for the last human message. For another question they may be made again."""
    calls: list[tuple[str, Mapping[str, Any]]] = []
    names: dict[str | None, str] = {}
    failures: Counter[str] = Counter()
    start = max((n for n, message in enumerate(messages) if isinstance(message, HumanMessage)), default=-1)
    for message in messages[start + 1 :]:
        if isinstance(message, AIMessage):
            calls += [(call["name"], call["args"]) for call in message.tool_calls if call["name"] not in repeatable]
            names |= {call["id"]: call["name"] for call in message.tool_calls}
        elif isinstance(message, ToolMessage) and message.status == "error" and message.tool_call_id in names:
            failures[names[message.tool_call_id]] += 1
    return Answered(tuple(calls), frozenset(name for name, count in failures.items() if count >= MOST_FAILURES))


class Showing:
    """What of a pass reaches the caller. Text goes on at once, a call when it is known to be a new one.

    Attributes:
        anything: Whether text or a call was let through.
        calls: Valid calls that were.
        done: Whether nothing new is to be expected of this pass.
        hidden: Text that is not shown.
    """

    def __init__(self, plan: OutputPlan):
        self.anything = False
        self.calls = 0
        self.done = False
        self._plan = plan
        self._space = ""  # before any text; layout if nothing follows
        self.hidden = ""
        self._open: list[Piece] = []  # the call that is being held
        self._withheld: list[tuple[str | None, Any]] = []

    def feed(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces that may be shown, calls numbered anew."""
        shown: list[Piece] = []
        for piece in pieces:
            match piece:
                case Text():
                    shown += self._text(piece.text)
                case Reasoning():
                    shown.append(piece)
                case _ if self._plan.answered is None:
                    self.anything = True
                    self.calls += isinstance(piece, CallEnd) and piece.error is None
                    shown.append(piece)
                case CallEnd():
                    shown += self._end([*self._open, piece], piece.error)
                    self._open = []
                case _:
                    self._open.append(piece)
        return shown

    def _text(self, text: str) -> list[Piece]:
        if not self._plan.shown:
            self.hidden += text
            self.done = self.done or (len(self.hidden) > _PREAMBLE and not self._plan.decides)
            return []
        if self._plan.otherwise is not None and not self.anything:
            text, self._space = self._space + text, ""
            if not text.strip():
                self._space = text
                return []
        self.anything = True
        return [Text(text)]

    def _end(self, call: Sequence[Piece], error: str | None) -> list[Piece]:
        assert self._plan.answered is not None
        assert isinstance(call[0], CallStart)
        name = call[0].name
        arguments = "".join(piece.fragment for piece in call if isinstance(piece, CallArguments))
        if error is None and self._plan.answered.holds(name, made := _read(arguments)):
            # A model that repeats itself within a pass goes on with it.
            self.done = self.done or (name, made) in self._withheld
            self._withheld.append((name, made))
            return []
        self.anything = True
        self.calls += error is None
        return [
            replace(piece, index=piece.index - len(self._withheld))
            for piece in call
            if not isinstance(piece, (Text, Reasoning))
        ]


def _read(arguments: str) -> Any:
    read = json.loads(arguments)
    return json.loads(read) if isinstance(read, str) else read
