"""Answers are read the same whatever the tokens; text that is no call comes out unchanged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from langchain_qwen.output.chunks import ChunkMaker
from langchain_qwen.output.detokenize import Detokenizer
from langchain_qwen.output.parser import CallParser
from langchain_qwen.output.pieces import CallArguments, CallEnd, CallStart, Text
from langchain_qwen.output.stop_strings import StopStrings

TOOLS = ("add", "get_weather")
ADD = '{"name": "add", "arguments": {"a": 1, "b": "}\\"{"}}'
WEATHER = '{"name": "get_weather", "arguments": {"city": "北京"}}'
ADD_ARGS = {"a": 1, "b": '}"{'}
WEATHER_ARGS = {"city": "北京"}


def read(pieces_of_text: list[str]) -> tuple[str, list[tuple[str | None, str, str | None]]]:
    """Text and calls (name, arguments, error) of an answer that comes in these pieces."""
    parser = CallParser(TOOLS)
    text, calls = "", {}
    for number, part in enumerate([*pieces_of_text, ""]):
        for piece in parser.feed(part, final=number == len(pieces_of_text)):
            match piece:
                case Text():
                    text += piece.text
                case CallStart():
                    assert piece.index not in calls
                    calls[piece.index] = [piece.name, "", "open"]
                case CallArguments():
                    calls[piece.index][1] += piece.fragment
                case CallEnd():
                    calls[piece.index][2] = piece.error
    assert list(calls) == list(range(len(calls)))
    return text, [tuple(call) for call in calls.values()]


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (f"<tool_call>\n{ADD}\n</tool_call>", "", [("add", ADD_ARGS)]),
        (f"I add.\n<tool_call>\n{ADD}\n</tool_call>\n Done.", "I add.Done.", [("add", ADD_ARGS)]),
        (
            f"<tool_call>\n{ADD}\n</tool_call>\n<tool_call>\n{WEATHER}\n</tool_call>",
            "",
            [("add", ADD_ARGS), ("get_weather", WEATHER_ARGS)],
        ),
        (f"<tool_call>{ADD}\n{WEATHER}</tool_call>", "", [("add", ADD_ARGS), ("get_weather", WEATHER_ARGS)]),
        (f"<tool_call>[{ADD}, {WEATHER}]</tool_call>", "", [("add", ADD_ARGS), ("get_weather", WEATHER_ARGS)]),
        (f"<tool_call>\n{ADD}", "", [("add", ADD_ARGS)]),
        (f"<tool_call>\n{{{ADD}}}\n</tool_call>", "", [("add", ADD_ARGS)]),
        (f"<tool_call>\n{{{ADD}\n</tool_call>", "", [("add", ADD_ARGS)]),
        (f"{{{WEATHER}}}\n{{{WEATHER}}}", "", [("get_weather", WEATHER_ARGS)] * 2),
        ('{{"name": "add", "arguments": {{"a": 1, "b": {"c": 2}}}}}', "", [("add", {"a": 1, "b": {"c": 2}})]),
        ('{{"arguments": {{"a": 1}}, "name": "add"}}', "", [("add", {"a": 1})]),
        ('{{"name": "add"}}', "", [("add", {})]),
        ('{{"name": "Ada"}}', '{{"name": "Ada"}}', []),
        ("{{add}}", "{{add}}", []),
        ('<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>', "", [("add", {"a": 1})]),
        ('<tool_call>{"name": "add", "parameters": {"a": 1}}</tool_call>', "", [("add", {"a": 1})]),
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("add", {"a": 1})]),
        ('<tool_call>{"name": "add"}</tool_call>', "", [("add", {})]),
        ('<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', "", [("unknown", {})]),
        (f"```json\n{ADD}\n```", "", [("add", ADD_ARGS)]),
        (f"Here:\n```json\n{ADD}\n{WEATHER}\n```\nok", "Here:ok", [("add", ADD_ARGS), ("get_weather", WEATHER_ARGS)]),
        (f"```\n[{ADD},\n{WEATHER}]\n```", "", [("add", ADD_ARGS), ("get_weather", WEATHER_ARGS)]),
        (ADD, "", [("add", ADD_ARGS)]),
        (f"{ADD}\n{WEATHER}", "", [("add", ADD_ARGS), ("get_weather", WEATHER_ARGS)]),
        (f"Sure.\n{ADD}\nBye", "Sure.Bye", [("add", ADD_ARGS)]),
        (f"[{ADD}, 5]", ", 5]", [("add", ADD_ARGS)]),
    ],
)
def test_calls_in_all_their_forms(answer, text, calls):
    got_text, got_calls = read([answer])
    assert got_text == text
    assert [(name, json.loads(arguments)) for name, arguments, _ in got_calls] == calls
    assert all(error is None for _, _, error in got_calls)


@pytest.mark.parametrize(
    "answer",
    [
        "Just text. ",
        '{"name": "Alice", "arguments": {}}',
        '```json\n{"name": "Alice"}\n```\n',
        "```python\nprint({1})\n```\nand\n```json\n{}\n```",
        '{"name": "add", "age": 3}',
        '{"a": 1}\n[1, 2]\n{',
        f"inline {ADD}",
        f"```text\nnot a call\n{ADD}\n```",
        "a < b <tool and <tool_cal",
        "``",
        '{"name": "add"',
        "\n\n  spaced  \n\n",
    ],
)
def test_other_text_is_unchanged(answer):
    assert read([answer]) == (answer, [])


@pytest.mark.parametrize(
    ("answer", "name", "arguments"),
    [
        ('<tool_call>\n{"name": "add", "arguments": {"a": 1', "add", '{"a": 1'),
        ('```json\n{"name": "add", "arguments": {"a": "x', "add", '{"a": "x'),
        ("<tool_call>\nadd(1, 2)\n</tool_call>", None, "add(1, 2)"),
        ('<tool_call>{"name": "add", "arguments": {"a": nope}}</tool_call>', "add", '{"a": nope}'),
        ('<tool_call>{"name": "add", "arguments": [1]}</tool_call>', "add", "[1]"),
    ],
)
def test_invalid_calls_keep_their_text(answer, name, arguments):
    text, [(got_name, got_arguments, error)] = read([answer])
    assert (text, got_name, got_arguments) == ("", name, arguments)
    assert error


FRAGMENTS = st.sampled_from(
    [
        "<tool_call>", "</tool_call>", "<tool", "\n", " ", "```", "```json\n", "{", "}", "[", "]", ",", '"', "\\",
        '"name": ', '"add"', '"arguments": ', '{"a": 1}', "text", "é", ":", ADD, WEATHER, '"x"', "5",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAGMENTS, max_size=14).map("".join), st.randoms(use_true_random=False))
def test_pieces_do_not_matter(answer, random):
    """One character at a time, and in random pieces, gives what the whole text gives."""
    whole = read([answer])
    assert read(list(answer)) == whole
    cuts = sorted(random.sample(range(len(answer) + 1), min(3, len(answer) + 1)))
    assert read([answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]) == whole


def test_arguments_stream_while_they_are_generated():
    parser = CallParser(TOOLS)
    seen = [parser.feed(character) for character in f"<tool_call>\n{ADD}\n</tool_call>"]
    fragments = [piece for pieces in seen for piece in pieces if isinstance(piece, CallArguments)]
    assert len(fragments) > 10


def test_text_is_held_back_only_while_it_may_become_a_call():
    parser = CallParser(TOOLS)
    shown = ""
    for character in 'x {"name": y ```no\n':
        shown += "".join(piece.text for piece in parser.feed(character) if isinstance(piece, Text))
    assert shown == 'x {"name": y ```no'  # the line break may stand before a call


class TestChunks:
    def merged(self, answer: str) -> AIMessageChunk:
        parser, maker = CallParser(TOOLS), ChunkMaker()
        chunks = [maker.chunk(parser.feed(character)) for character in answer]
        return sum([*chunks, maker.chunk(parser.feed("", final=True))], AIMessageChunk(content=""))

    def test_chunks_add_up_to_calls(self):
        message = self.merged(f"Both:\n<tool_call>\n{ADD}\n</tool_call>\n<tool_call>\n{WEATHER}\n</tool_call>")
        assert message.content == "Both:"
        assert [(c["name"], c["args"]) for c in message.tool_calls] == [
            ("add", ADD_ARGS),
            ("get_weather", WEATHER_ARGS),
        ]
        assert len({c["id"] for c in message.tool_calls}) == 2
        assert not message.invalid_tool_calls

    def test_one_chunk_adds_up_too(self):
        maker = ChunkMaker()
        message = maker.chunk(CallParser(TOOLS).feed(ADD + "\n" + WEATHER, final=True))
        assert [c["args"] for c in message.tool_calls] == [ADD_ARGS, WEATHER_ARGS]

    @settings(max_examples=150, deadline=None)
    @given(
        st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=9), st.lists(st.booleans()))),
        st.data(),
    )
    def test_a_cut_call_is_never_valid(self, arguments, data):
        """LangChain's lenient parser must not make a call of half the arguments."""
        whole = json.dumps(arguments, ensure_ascii=False)
        cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
        message = self.merged(f'<tool_call>\n{{"name": "add", "arguments": {cut}')
        if message.invalid_tool_calls:
            assert message.invalid_tool_calls[0]["args"].startswith(cut)
        assert not message.tool_calls


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=4)), st.text(max_size=20))
def test_detokenizer_equals_decoding_everything(tokens, text):
    tokens += [bytes([byte]) for byte in text.encode()]
    detokenizer = Detokenizer(tokens.__getitem__)
    pieces = [detokenizer.feed(i) for i in range(len(tokens))]
    assert "".join(pieces) + detokenizer.flush() == b"".join(tokens).decode("utf-8", errors="replace")


def naive_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: at the first moment at which a stop string is contained, cut before the earliest."""
    for end in range(len(text) + 1):
        starts = [text[:end].find(stop) for stop in stops if stop in text[:end]]
        if starts:
            return text[: min(starts)], True
    return text, False


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ab\n", max_size=20),
    st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_stop_strings_equal_the_naive_scan(text, stops, size):
    stopper = StopStrings(stops)
    shown, hit = "", False
    for start in range(0, len(text), size):
        piece, hit = stopper.feed(text[start : start + size])
        shown += piece
        if hit:
            break
    if not hit:
        shown += stopper.flush()
    assert (shown, hit) == naive_stop(text, stops)
