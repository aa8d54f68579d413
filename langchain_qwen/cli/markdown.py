"""Markdown in the terminal, laid out while it arrives."""

from __future__ import annotations

from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

# What a model writes as HTML is shown as it is, and no link hides where it leads.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("image")


class MarkdownWriter:
    """Shows an answer block by block; the last one, which still grows, is drawn anew while it does."""

    def __init__(self, console: Console):
        self._console = console
        self._text = ""  # of the blocks that are not complete
        self._blocks = 0
        self._live = Live(console=console, get_renderable=self._growing, refresh_per_second=8, transient=True)

    def write(self, piece: str) -> None:
        """Add a piece of the answer."""
        if not self._live.is_started:
            self._live.start()
        self._text += piece
        if "\n" in piece:
            complete, self._text = split(self._text)
            self._print(complete)

    def close(self) -> None:
        """Show the rest for good."""
        text, self._text = self._text, ""
        if self._live.is_started:
            self._live.stop()
        self._print(text)

    def _print(self, text: str) -> None:
        if text.strip():
            if self._blocks:
                self._console.print()
            self._console.print(_Lines(text), end="")
            self._blocks += 1

    def _growing(self) -> Group:
        gap = [Text()] if self._blocks else []
        return Group(*gap, _Lines(self._text, at_most=max(1, self._console.height - 2)))


def split(text: str) -> tuple[str, str]:
    """The blocks that nothing to come can change, and the last one."""
    starts = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map]
    if len(starts) < 2:
        return "", text
    lines = text.splitlines(keepends=True)
    return "".join(lines[: starts[-1]]), "".join(lines[starts[-1] :])


class _Heading(Heading):
    """At the left, in every version of rich."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text


class _Code(CodeBlock):
    """Without a frame or a margin, so that it can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)


class _Answer(Markdown):
    """Line breaks stay where the model makes them: poems, addresses, lists without marks."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
    }

    def __init__(self, text: str):
        super().__init__("", hyperlinks=False)
        self.markup, self.parsed = text, _PARSER.parse(text)
        for token in self.parsed:
            for child in token.children or ():
                _break(child)


def _break(token: Token) -> None:
    if token.type == "softbreak":
        token.type = "hardbreak"


class _Lines:
    """A block without empty lines around it; the last of its lines, where the screen does not hold all."""

    def __init__(self, text: str, *, at_most: int | None = None):
        self._text, self._at_most = text, at_most

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(_Answer(self._text), options.update(height=None), pad=False)
        full = [number for number, line in enumerate(lines) if "".join(part.text for part in line).strip()]
        shown = lines[full[0] : full[-1] + 1] if full else []
        for line in shown if self._at_most is None else shown[-self._at_most :]:
            yield from line
            yield Segment.line()
