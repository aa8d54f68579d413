"""What an answer costs to read is in proportion to its length, and no nesting raises out of the stream."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable

import pytest
from langchain_core.messages import AIMessageChunk

from langchain_qwen.output.chunks import ChunkMaker
from langchain_qwen.output.parser import CallParser
from langchain_qwen.output.pieces import CallArguments, CallEnd, CallStart, Text
from tests.unit_tests.output.test_parser import ADD, TOOLS, read

CALL = f"<tool_call>\n{ADD}\n</tool_call>\n"


def tokens(text: str, size: int = 4) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def message(pieces: Iterable[str]) -> AIMessageChunk:
    parser, maker = CallParser(TOOLS), ChunkMaker()
    chunks = [maker.chunk(parser.feed(piece)) for piece in pieces]
    whole = AIMessageChunk(content="").__add__([*chunks, maker.chunk(parser.feed("", final=True))])
    assert isinstance(whole, AIMessageChunk)
    return whole


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the better of two runs."""
    times = []
    for _ in range(2):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def feed_all(pieces: list[str]) -> None:
    parser = CallParser(TOOLS)
    for piece in pieces:
        parser.feed(piece)
    parser.feed("", final=True)


@pytest.mark.parametrize(
    "answer",
    [
        '<tool_call>{"name": "add", "arguments": {"a": %s}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": %s}</tool_call>',
        '<tool_call>{"arguments": {"a": %s}, "name": "add"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": %s}"}</tool_call>',
        "<tool_call>%s</tool_call>",
        '{"name": "add", "arguments": {"a": %s}}',
    ],
)
@pytest.mark.parametrize("pieces", [list, lambda answer: [answer]])
def test_deeply_nested_arguments_are_an_invalid_call_and_no_recursion_error(answer, pieces):
    for nested in ("[" * 3000 + "]" * 3000, "[" * 3000):
        text, calls = read(pieces(answer % nested + CALL))
        assert text == ""
        if answer.endswith("</tool_call>") and nested.endswith("]"):
            ((_, arguments, error), (_, second, none)) = calls
            assert none is None
            assert json.loads(second)["a"] == 1
        else:
            _, arguments, error = calls[0]
        assert error
        assert arguments.count("[") <= 100
    result = message([answer % ("[" * 3000 + "]" * 3000)])
    assert not result.tool_calls
    assert len(result.invalid_tool_calls) == 1


def test_deep_arguments_before_the_name_of_a_bare_call_are_text():
    answer = '{"arguments": ' + "[" * 3000 + "]" * 3000 + ', "name": "add"}'
    assert read([answer]) == read(list(answer)) == (answer, [])


def test_arguments_of_ordinary_depth_are_valid():
    nested = '{"a": ' + "[" * 90 + "1" + "]" * 90 + "}"
    _, [(_, arguments, error)] = read(list(f'<tool_call>{{"name": "add", "arguments": {nested}}}</tool_call>'))
    assert (arguments, error) == (nested, None)


def test_the_error_says_how_deep_arguments_may_be():
    answer = '<tool_call>{"name": "add", "arguments": {"a": ' + "[" * 3000
    parser = CallParser(TOOLS)
    ends = [p for p in parser.feed(answer + "]" * 3000 + "}}", final=True) if isinstance(p, CallEnd)]
    assert "100 deep" in ends[0].error


@pytest.mark.parametrize(
    ("before", "unit"),
    [
        ("", CALL),
        ("<tool_call>\n", ADD + "\n"),
        ("```json\n[", ADD + ",\n"),
        ('<tool_call>{"name": "add", "arguments": {"a": "', "x" * 80),  # arguments that do not end
        ('<tool_call>{"arguments": {"a": "', "x" * 80),  # ... and come before the name
        ('{"name": "add", "arguments": "', "{" * 80),
        ("", "a" * 80),
        ("", " \n" * 40),
        ("", "<tool_call>" * 8),
        ("", "```\n" * 20),
        ("", "```json\n{"),
        ("", '{"name"\n[{\n' * 8),
        ("", '{"arguments": [\n' * 5),
        ("<tool_call>", "not a call " * 8),
        ("", "<tool_cal<tool_ca``" * 4),
    ],
)
def test_an_answer_is_read_in_linear_time(before, unit):
    costs = []
    for count in (250, 1000, 4000) if ADD in unit else (250, 1000):
        pieces = tokens(before + unit * count)
        costs.append(seconds(lambda pieces=pieces: feed_all(pieces)))
    for smaller, larger in itertools.pairwise(costs):
        assert larger < 10 * smaller + 0.05


def test_a_thousand_calls_in_one_tag_take_no_half_minute():
    assert seconds(lambda: message(tokens("<tool_call>" + f"{ADD}\n" * 1000, size=16))) < 10


def test_a_long_answer_in_one_piece_is_read_in_linear_time():
    for unit in ('{"x": 1\n', "```json\n[\n", "<tool_call>{\n", '{"arguments": [\n'):
        small, large = (seconds(lambda n=n, unit=unit: feed_all([unit * n])) for n in (1_000, 10_000))
        assert large < 25 * small + 0.1, unit


def test_half_a_megabyte_of_arguments_streams_token_by_token():
    argument = json.dumps({"text": "word " * 40_000, "numbers": list(range(40_000))})
    parser = CallParser(TOOLS)
    started = time.process_time()
    pieces = [
        piece
        for token in tokens(f'<tool_call>{{"name": "add", "arguments": {argument}}}')
        for piece in parser.feed(token)
    ]
    pieces += parser.feed("</tool_call>", final=True)
    assert time.process_time() - started < 15
    assert "".join(p.fragment for p in pieces if isinstance(p, CallArguments)) == argument
    assert sum(isinstance(p, CallArguments) for p in pieces) > 90_000
    assert isinstance(pieces[-1], CallEnd)
    assert pieces[-1].error is None


def test_long_arguments_that_are_no_json_do_not_stall_the_stream():
    """LangChain's lenient parser would try each of their beginnings."""
    for arguments in ("{nope: " + "x" * 30_000, "{nope: [" + "x" * 30_000, '{nope: "' + "x" * 30_000):
        answer = f'<tool_call>{{"name": "add", "arguments": {arguments}'
        started = time.process_time()
        result = message(tokens(answer))
        assert time.process_time() - started < 2
        assert result.invalid_tool_calls[0]["args"].startswith(arguments)
        assert not result.tool_calls
    started = time.process_time()
    message(["<tool_call>" + "add(1, 2) " * 3_000 + "</tool_call>"])
    assert time.process_time() - started < 2


def test_calls_are_not_doubled_where_a_list_goes_on_as_text():
    for answer in (f"[{ADD} and so on", f"[{ADD}, {ADD} x", '{"name": "add", "arguments": {}, 5'):
        text, calls = read([answer])
        assert len(calls) == answer.count('"name"')
        assert read(list(answer)) == (text, calls)


def test_pieces_of_text_are_not_lost():
    parser = CallParser(TOOLS)
    kinds = [type(piece) for token in tokens(f"one {CALL}two") for piece in parser.feed(token)]
    assert kinds[0] is Text
    assert kinds.count(CallStart) == kinds.count(CallEnd) == 1
