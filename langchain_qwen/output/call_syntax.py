"""The forms in which Qwen models write tool calls, read from text that may still be growing.

A call is an object whose keys are `name` and then `arguments` (or `parameters`, or the two in the other order, or no
arguments at all). It may stand
- between `<tool_call>` tags, Qwen's own form, once or several times; any name counts, so that the caller can tell the
  model of a tool that does not exist;
- in a fenced block (```json and the like), as the Coder models write; only with the name of a bound tool;
- bare, alone or in a list, at the beginning of the answer or of a line; only with the name of a bound tool.
What has none of these forms is text, to the character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum

OPEN, CLOSE, FENCE = "<tool_call>", "</tool_call>", "```"
_SPACE = re.compile(r"\s*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}\"{\[]+")
_BRACKET_OR_STRING = re.compile(r'["{}\[\]]')
_FENCE_HEAD = re.compile(r"```[A-Za-z_+-]*[ \t]*\r?\n")
_FENCE_START = re.compile(r"```[A-Za-z_+-]*[ \t]*\r?")
_KEYS = ("name", "arguments", "parameters")


class Status(Enum):
    """What is known of a block."""

    OPEN = "may go on"
    CALLS = "ended; its calls are final"
    TEXT = "no call: it is text"


@dataclass
class Call:
    """A call as far as it was read.

    Attributes:
        name: The tool.
        arguments: JSON text, or its beginning.
        complete: Whether the arguments ended.
        error: Why this is no valid call; None for a valid or unfinished one.
    """

    name: str | None = None
    arguments: str = ""
    complete: bool = False
    error: str | None = None


@dataclass
class Block:
    """What stands at the beginning of a text.

    Attributes:
        end: Where the text goes on after the block (or after what is surely text).
    """

    status: Status
    calls: list[Call] = field(default_factory=list)
    end: int = 0


class _Cut(Exception):  # noqa: N818  not an error: the text ends before the value does
    """More text is needed."""


class _NoCall(Exception):  # noqa: N818
    """This is something else."""


def read_block(text: str, tool_names: Collection[str], *, final: bool) -> Block:
    """Read the block at the beginning of `text`, which starts with a tag, a fence or a bracket.

    Args:
        text: From the block's first character on.
        tool_names: The bound tools.
        final: Whether nothing follows `text`.
    """
    if text.startswith(OPEN):
        return _read_tagged(text, final=final)
    if text.startswith(FENCE):
        head = _FENCE_HEAD.match(text)
        if head is None:
            growing = not final and _FENCE_START.fullmatch(text) is not None
            return Block(Status.OPEN) if growing else Block(Status.TEXT, end=len(FENCE))
        block = _read_values(text, head.end(), tool_names, final=final, many=True)
        if block.status is Status.TEXT:
            return Block(Status.TEXT, end=head.end())
        if block.status is Status.CALLS:
            return _close_fence(text, block, final=final)
        return block
    return _read_values(text, 0, tool_names, final=final, many=False)


def _close_fence(text: str, block: Block, *, final: bool) -> Block:
    """The closing fence belongs to the block if only space stands before it."""
    start = _space(text, block.end)
    rest = text[start:]
    if rest.startswith(FENCE):
        return Block(Status.CALLS, block.calls, start + len(FENCE))
    if not final and FENCE.startswith(rest):
        return Block(Status.OPEN, block.calls)
    return block


def _read_tagged(text: str, *, final: bool) -> Block:
    block = _read_values(text, len(OPEN), None, final=final, many=True)
    start = _space(text, block.end)
    rest = text[start:]
    if block.status is Status.CALLS:
        if rest.startswith(CLOSE):
            return Block(Status.CALLS, block.calls, start + len(CLOSE))
        if not final and CLOSE.startswith(rest):
            return Block(Status.OPEN, block.calls)
        return block
    if block.status is Status.TEXT:  # in tags this is meant to be a call, so it is an invalid one
        end = text.find(CLOSE, len(OPEN))
        if end < 0 and not final:
            return Block(Status.OPEN)
        stop = len(text) if end < 0 else end
        raw = text[len(OPEN) : stop].strip()
        call = Call(arguments=raw, error="not a JSON object with name and arguments")
        return Block(Status.CALLS, [call], stop if end < 0 else end + len(CLOSE))
    return block


def _read_values(text: str, start: int, names: Collection[str] | None, *, final: bool, many: bool) -> Block:
    """One call or a list of calls; with `many` also several values one after the other."""
    calls: list[Call] = []
    position = start
    try:
        position = _read_value(text, _space(text, start), names, calls)
        while many:
            following = _space(text, position)
            if text.startswith(",", following):
                following = _space(text, following + 1)
            if following == len(text) and not final:
                return Block(Status.OPEN, calls, position)
            if text[following : following + 1] not in ("{", "["):
                break
            count = len(calls)
            try:
                position = _read_value(text, following, names, calls)
            except _NoCall:
                del calls[count:]
                break
    except _Cut:
        if not final:
            return Block(Status.OPEN, calls, position)
        # The answer was cut. What had not been recognised as a call by then is text (or, in tags, invalid).
        if not calls:
            return Block(Status.TEXT, end=1)
        if not calls[-1].complete:
            calls[-1].error = "the answer ended within the call"
        return Block(Status.CALLS, calls, len(text))
    except _NoCall:
        return Block(Status.TEXT, end=1)
    return Block(Status.CALLS, calls, position)


def _read_value(text: str, start: int, names: Collection[str] | None, calls: list[Call]) -> int:
    """Read a call or a list of calls; returns where it ends."""
    if start >= len(text):
        raise _Cut
    if text[start] != "[":
        return _read_call(text, start, names, calls)
    position = start + 1
    count = len(calls)
    while True:
        end = position - (len(calls) > count)  # a comma before what is no call is text with it
        try:
            position = _space(text, _read_call(text, _space(text, position), names, calls))
            following = _character(text, position)
            if following not in ",]":
                raise _NoCall
        except _NoCall:
            if len(calls) == count:
                raise
            return end  # calls, and then something else: that is text again
        if following == "]":
            return position + 1
        position += 1


def _read_call(text: str, start: int, names: Collection[str] | None, calls: list[Call]) -> int:
    """Read an object; a call that is recognised is added to `calls` before its arguments are complete."""
    if _character(text, start) != "{":
        raise _NoCall
    position = _space(text, start + 1)
    arguments: str | None = None
    call: Call | None = None
    while True:
        key, position = _key(text, position, any_key=call is not None and call.complete)
        if key == "name":
            end = _value_end(text, position)
            name = _loads(text[position:end])
            if call is not None or not isinstance(name, str) or (names is not None and name not in names):
                raise _NoCall
            call = Call(name=name)
            if arguments is not None:
                calls.append(call)
                _finish(call, arguments)
            position = end
        elif key in _KEYS:
            if call is None:
                end = _value_end(text, position)
                arguments = text[position:end]
                position = end
            elif call.complete:
                position = _value_end(text, position)
            else:
                calls.append(call)
                position = _read_arguments(text, position, call)
        elif call is None or not call.complete:
            raise _NoCall
        else:  # further keys after a whole call change nothing
            position = _value_end(text, position)
        position = _space(text, position)
        following = _character(text, position)
        if following == "}":
            if call is None:
                raise _NoCall
            if not call.complete:
                calls.append(call)
                _finish(call, "{}")
            return position + 1
        if following != ",":
            if call is not None and call.complete:  # a whole call with a malformed end
                return position
            raise _NoCall
        position = _space(text, position + 1)


def _read_arguments(text: str, start: int, call: Call) -> int:
    if _character(text, start) == "{":  # the usual case: can be passed on while it grows
        call.arguments = text[start:]
    end = _value_end(text, start)
    _finish(call, text[start:end])
    return end


def _finish(call: Call, arguments: str) -> None:
    value = _loads(arguments)
    if isinstance(value, str):  # JSON within a string
        arguments, value = value, _loads(value)
    call.arguments = arguments
    call.complete = True
    if not isinstance(value, dict):
        call.error = "the arguments are not a JSON object"


def _loads(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _key(text: str, start: int, *, any_key: bool) -> tuple[str, int]:
    """A key and the position of its value; gives up as soon as it can be none that a call begins with."""
    if _character(text, start) != '"':
        raise _NoCall
    match = _STRING.match(text, start)
    if match is None:
        beginning = text[start + 1 :]
        if any_key or any(key.startswith(beginning) for key in _KEYS):
            raise _Cut
        raise _NoCall
    position = _space(text, match.end())
    if _character(text, position) != ":":
        raise _NoCall
    position = _space(text, position + 1)
    _character(text, position)
    return match.group()[1:-1], position


def _value_end(text: str, start: int) -> int:
    """Where the JSON value at `start` ends."""
    first = _character(text, start)
    if first == '"':
        match = _STRING.match(text, start)
        if match is None:
            raise _Cut
        return match.end()
    if first not in "{[":
        match = _SCALAR.match(text, start)
        if match is None:
            raise _NoCall
        if match.end() == len(text):
            raise _Cut
        return match.end()
    depth, position = 0, start
    while True:
        match = _BRACKET_OR_STRING.search(text, position)
        if match is None:
            raise _Cut
        if match.group() == '"':
            string = _STRING.match(text, match.start())
            if string is None:
                raise _Cut
            position = string.end()
            continue
        depth += 1 if match.group() in "{[" else -1
        position = match.end()
        if depth == 0:
            return position


def _character(text: str, position: int) -> str:
    if position >= len(text):
        raise _Cut
    return text[position]


def _space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()
