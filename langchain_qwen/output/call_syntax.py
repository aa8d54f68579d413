"""The forms in which Qwen models write tool calls, read while the text arrives.

A call is an object whose keys are `name` and then `arguments` (or `parameters`, or the two in the other order, or no
arguments at all). Models that were rounded double its braces at times, after a tool's result; that is the same call.
It may stand
- between `<tool_call>` tags, Qwen's own form, once or several times; any name counts, so that the caller can tell the
  model of a tool that does not exist;
- in a fenced block (```json and the like), as the Coder models write; only with the name of a bound tool;
- bare, alone or in a list, at the beginning of the answer or of a line; only with the name of a bound tool.
What has none of these forms is text, to the character.

Once a call has its name and its arguments begin, it stays a call. What follows and fits no form is text again, from the
end of the last whole call on.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Collection, Generator

from langchain_qwen.output.arriving import MAX_DEPTH, Arriving, Ended, Heard, NoValue
from langchain_qwen.output.pieces import CallArguments, CallEnd, CallStart, Piece

OPEN, CLOSE, FENCE = "<tool_call>", "</tool_call>", "```"
_KEYS = ('"name"', '"arguments"', '"parameters"')
_LANGUAGE, _BLANKS = re.compile(r"[A-Za-z_+-]*"), re.compile(r"[ \t]*")
_NO_CALL = "not a JSON object with name and arguments"
_NO_OBJECT = "the arguments are not a JSON object"
_CUT = "the answer ended within the call"
_TOO_DEEP = f"the arguments are nested more than {MAX_DEPTH} deep; what is deeper was left out"
_DEPTH_UNNAMED = 32

Reading = Generator[None, None, None]


class CallReader:
    """Reads one block after the other.

    Args:
        source: Stands at the beginning of a block when `block` is called: at a tag, a fence or a bracket.
        tool_names: The bound tools.
        pieces: Where the pieces of calls are put.

    Attributes:
        completed: Valid calls so far.
    """

    def __init__(self, source: Arriving, tool_names: Collection[str], pieces: list[Piece]):
        self.completed = 0
        self._source = source
        self._tool_names = tool_names
        self._pieces = pieces
        self._next_index = 0
        self._open = False  # within a call that has begun

    def block(self) -> Generator[None, None, int]:
        """Read a block.

        Returns:
            0 if it held calls; the source stands behind it. Else how many characters are surely text; the source stands
            before them, where the block began.
        """
        source = self._source
        source.keep()
        surely_text = 1
        try:
            if source.window.startswith(OPEN, source.at):
                yield from self._tagged()
            elif source.window.startswith(FENCE, source.at):
                surely_text = len(source.take(len(FENCE)))
                head = len((yield from source.run(_LANGUAGE))) + len((yield from source.run(_BLANKS)))
                head += yield from source.literal("\r")
                if not (yield from source.literal("\n")):
                    raise NoValue
                surely_text += head + 1
                yield from self._values(self._tool_names, many=True)
                yield from self._closing(FENCE)
            else:
                yield from self._values(self._tool_names, many=False)
        except NoValue:
            source.give_back()
            return surely_text
        source.forget()
        return 0

    def _tagged(self) -> Reading:
        source = self._source
        source.take(len(OPEN))
        try:
            yield from self._values(None, many=True)
        except NoValue as reason:  # in tags this is meant to be a call, so it is an invalid one
            source.give_back()
            source.take(len(OPEN))
            written = (yield from self._until_close()).strip()
            self._begin(None)
            self._hear(_shallow(written))
            self._end(str(reason) or _NO_CALL)
        else:
            yield from self._closing(CLOSE)

    def _until_close(self) -> Generator[None, None, str]:
        source = self._source
        taken: list[str] = []
        while (end := source.window.find(CLOSE, source.at)) < 0:
            left = len(source.window) - source.at
            if source.final:
                return "".join([*taken, source.take(left)])
            taken.append(source.take(max(0, left - len(CLOSE) + 1)))  # the end may be half a tag
            yield
        taken.append(source.take(end - source.at))
        source.take(len(CLOSE))
        return "".join(taken)

    def _closing(self, mark: str) -> Reading:
        """What closes a block belongs to it if only space stands before it."""
        self._source.keep()
        yield from self._source.space()
        if not (yield from self._source.literal(mark)):
            self._source.give_back()

    def _values(self, names: Collection[str] | None, *, many: bool) -> Reading:
        """One call or a list of calls; with `many` also several values one after the other.

        Raises:
            NoValue: If there is not one call.
        """
        source, begun = self._source, self._next_index
        try:
            yield from source.space()
            yield from self._value(names)
            while many:
                source.keep()
                yield from source.space()
                if (yield from source.literal(",")):
                    yield from source.space()
                if (yield from source.at_end()) or source.window[source.at] not in "{[":
                    return source.give_back()
                try:
                    yield from self._value(names)
                except NoValue:
                    return source.give_back()
        except Ended:
            # The answer was cut. What had not been recognised as a call by then is text (or, in tags, invalid).
            if self._next_index == begun:
                raise NoValue from None
            if self._open:
                self._end(_CUT)
        return None

    def _value(self, names: Collection[str] | None) -> Reading:
        """A call or a list of calls.

        Raises:
            NoValue: If there is not one call.
        """
        source = self._source
        if (yield from source.peek()) != "[":
            return (yield from self._call(names))
        source.take(1)
        yield from source.space()
        yield from self._call(names)
        while True:
            source.keep()
            yield from source.space()
            if (yield from source.literal("]")):
                return None
            yield from source.peek()
            if not (yield from source.literal(",")):
                return source.give_back()  # calls, and then something else: that is text again
            yield from source.space()
            try:
                yield from self._call(names)
            except NoValue:
                return source.give_back()

    def _call(self, names: Collection[str] | None) -> Reading:
        """An object; a call begins before its arguments are complete.

        Raises:
            NoValue: If it is no call; none has begun then.
        """
        source = self._source
        if (yield from source.peek()) != "{":
            raise NoValue
        doubled = yield from source.literal("{{")
        source.at -= doubled
        name: str | None = None
        arguments: Heard | None = None
        while True:
            source.take(1)  # the bracket or the comma
            key = yield from self._key()
            if key == '"name"':
                if name is not None or (yield from source.peek()) != '"':
                    raise NoValue
                name = _name(_loads((yield from source.string())), names)
                if arguments is not None:
                    self._begin(name)
                    self._finish(arguments)
                    break
            elif name is None:
                arguments = _Unnamed()
                yield from source.value(arguments)
            else:
                yield from self._arguments(name, doubled=doubled)
                break
            yield from source.space()
            following = yield from source.peek()
            if following == "}" and name is not None:
                source.take(1)
                self._begin(name)
                self._finish(Heard("{}"))
                return (yield from self._other_brace(doubled=doubled))
            if following != ",":
                raise NoValue
        yield from self._rest()
        yield from self._other_brace(doubled=doubled)

    def _other_brace(self, *, doubled: bool) -> Reading:
        if doubled:
            yield from self._source.literal("}")

    def _key(self) -> Generator[None, None, str]:
        """A key that a call begins with, up to its value."""
        source = self._source
        yield from source.space()
        key = ""
        while key not in _KEYS:
            key += yield from source.peek()
            source.take(1)
            if not any(known.startswith(key) for known in _KEYS):
                raise NoValue
        yield from self._colon()
        return key

    def _colon(self) -> Reading:
        yield from self._source.space()
        if (yield from self._source.peek()) != ":":
            raise NoValue
        self._source.take(1)
        yield from self._source.space()

    def _arguments(self, name: str, *, doubled: bool) -> Reading:
        first = yield from self._source.peek()
        if first in ",]}":
            raise NoValue
        self._begin(name)
        # The usual case can be passed on while it grows.
        arguments = _PassedOn(self._hear) if first == "{" and not doubled else Heard()
        yield from self._source.value(arguments)
        self._finish(arguments)

    def _rest(self) -> Reading:
        """Further keys after a whole call change nothing; a malformed end is text."""
        source = self._source
        while True:
            source.keep()
            yield from source.space()
            yield from source.peek()
            if (yield from source.literal("}")):
                return None
            try:
                if not (yield from source.literal(",")):
                    raise NoValue
                yield from source.space()
                if (yield from source.peek()) != '"':
                    raise NoValue
                yield from source.string()
                yield from self._colon()
                yield from source.value(Heard())
            except NoValue:
                return source.give_back()

    def _begin(self, name: str | None) -> None:
        self._source.forget()
        self._open = True
        self._pieces.append(CallStart(self._next_index, f"call_{uuid.uuid4().hex[:24]}", name))
        self._next_index += 1

    def _hear(self, fragment: str) -> None:
        if fragment:
            self._pieces.append(CallArguments(self._next_index - 1, fragment))

    def _end(self, error: str | None) -> None:
        self._open = False
        self.completed += error is None
        self._pieces.append(CallEnd(self._next_index - 1, error))

    def _finish(self, heard: Heard) -> None:
        text, too_deep = _undoubled(heard.text), heard.too_deep
        value = None if too_deep else _loads(text)
        if isinstance(value, str):  # JSON within a string
            text = _shallow(value)
            too_deep = text != value
            value = None if too_deep else _loads(value)
        if not isinstance(heard, _PassedOn):
            self._hear(text)
        self._end(_TOO_DEEP if too_deep else None if isinstance(value, dict) else _NO_OBJECT)


class _PassedOn(Heard):
    """Arguments that are passed on part by part."""

    def __init__(self, hear: Callable[[str], None]):
        super().__init__()
        self.pass_on = hear  # type: ignore[assignment,method-assign]


class _Unnamed(Heard):
    """Arguments before their name. They are read again where no name follows, at most as often as they are deep."""

    def __init__(self) -> None:
        super().__init__(max_depth=_DEPTH_UNNAMED)

    def add(self, part: str, depth: int = 0) -> None:
        super().add(part, depth)
        if self.too_deep:
            raise NoValue(f"arguments before their name are nested more than {_DEPTH_UNNAMED} deep")


def _name(value: object, names: Collection[str] | None) -> str:
    if not isinstance(value, str) or (names is not None and value not in names):
        raise NoValue
    return value


def _undoubled(text: str) -> str:
    """`{{...}}` is no JSON; within it the braces are single ones."""
    return text[1:-1] if text.startswith("{{") and text.endswith("}}") else text


def _shallow(text: str) -> str:
    """A text up to the bracket in it that is nested too deep for those who read it as JSON."""
    source, heard = Arriving(), Heard()
    source.add(text, final=True)
    try:
        for _ in source.value(heard):
            pass
    except (Ended, NoValue):
        pass
    return heard.text if heard.too_deep else text


def _loads(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
