from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_qwen.cli import terminal


def test_stdout_holds_only_the_answer(run, use):
    model = use("The sky is blue.")
    result = run("ask", "Why?", "--system", "Be brief.")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "The sky is blue.\n", "")
    assert model.seen == [[SystemMessage("Be brief."), HumanMessage("Why?")]]


def test_a_question_needs_no_quotes(run, use):
    model = use("yes")
    run("ask", "is", "it", "--no-stream", "blue?")
    assert model.seen == [[HumanMessage("is it blue?")]]


@pytest.mark.parametrize(
    ("arguments", "piped", "sent"),
    [
        (["sum it up"], "one\ntwo\n", "one\ntwo\n\nsum it up"),
        ([], "what is 1+1?\n", "what is 1+1?"),
        (["hi"], "\n", "hi"),
        (["怎么样？"], "  indented: שלום\n", "  indented: שלום\n\n怎么样？"),
    ],
)
def test_a_pipe_comes_before_the_question(run, use, arguments, piped, sent):
    model = use("yes")
    assert run("ask", *arguments, input=piped).exit_code == 0
    assert model.seen == [[HumanMessage(sent)]]


def test_no_question(run, use):
    use("yes")
    result = run("ask")
    assert result.exit_code == 1
    assert "there is no question" in result.stderr


def test_a_pipe_that_is_not_text(run, use):
    use("yes")
    result = run("ask", input=b"caf\xe9")
    assert result.exit_code == 1
    assert "not UTF-8 text (byte 3)" in result.stderr


def test_ctrl_c(run, use):
    use(["Once", "upon", KeyboardInterrupt()])
    result = run("ask", "hi")
    assert (result.exit_code, result.stdout) == (130, "Once upon")


def test_without_streaming(run, use):
    use("one two\n")
    assert run("ask", "hi", "--no-stream").stdout == "one two\n"


@pytest.mark.parametrize("option", ["--stream", "--no-stream"])
def test_a_cut_answer_is_told(run, use, option):
    use("one two", finish_reason="length")
    result = run("ask", "hi", option)
    assert (result.exit_code, result.stdout) == (0, "one two\n")
    assert "cut after 2 tokens" in result.stderr


@pytest.mark.parametrize("option", ["--stream", "--no-stream"])
def test_a_cut_json_is_an_error(run, use, option, tmp_path):
    use('{"a": ', finish_reason="length")
    (tmp_path / "s.json").write_text("{}")
    result = run("ask", "hi", option, "--schema", tmp_path / "s.json")
    assert result.exit_code == 1
    assert "cut after 1 tokens" in result.stderr


def test_a_schema_reaches_the_model(run, use, tmp_path):
    model = use('{"a": 1}')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    (tmp_path / "point.json").write_text(json.dumps(schema))
    result = run("ask", "hi", "--schema", tmp_path / "point.json")
    assert json.loads(result.stdout) == {"a": 1}
    inner = {"name": "point", "schema": schema, "strict": True}
    assert model.arguments[0]["response_format"] == {"type": "json_schema", "json_schema": inner}


def test_any_json_object(run, use):
    model = use("{}")
    run("ask", "hi", "--json")
    assert model.arguments[0]["response_format"] == {"type": "json_object"}


def test_files_come_before_the_question(run, use, tmp_path):
    model = use("yes", "yes")
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    run("ask", "--file", tmp_path / "a.txt", "sum it up", input="piped\n")
    run("ask", "-f", tmp_path / "a.txt", "-f", tmp_path / "b.txt", "which?")
    assert [seen[0].text for seen in model.seen] == [
        "piped\n\none\n\nsum it up",
        "a.txt:\none\n\nb.txt:\ntwo\n\nwhich?",
    ]
    missing = run("ask", "-f", tmp_path / "none.txt", "hi")
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (1, True)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot be read"), ("{", "is no JSON"), ("[" * 100_000, "is no JSON"), ("[1]", "holds no JSON Schema")],
)
def test_a_schema_file_that_is_none(run, use, tmp_path, content, complaint):
    model = use("yes")
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    result = run("ask", "hi", "--schema", tmp_path / "s.json")
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert not model.seen


def test_a_reader_that_leaves_ends_it_quietly():
    command = [sys.executable, "-m", "tests.unit_tests.cli.scripted", "endless", "ask", "count"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"line 0\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=120) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_told_in_a_line():
    command = [sys.executable, "-m", "tests.unit_tests.cli.scripted", "endless", "ask", "count"]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert (ended.returncode, ended.stderr) == (1, b"[Errno 28] No space left on device\n")


def test_an_answer_cannot_control_the_terminal(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Screen())
    terminal.write("\x1b]52;c;AAAA\x07 a\tb\r\n\x9b2J 你好 שלום 👩‍👩‍👧")
    assert sys.stdout.getvalue() == "�]52;c;AAAA� a\tb\n�2J 你好 שלום 👩‍👩‍👧"
