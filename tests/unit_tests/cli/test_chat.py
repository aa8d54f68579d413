from __future__ import annotations

import io
import itertools
import json
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from rich.console import Console

from langchain_qwen.cli import model as models
from langchain_qwen.cli import terminal
from langchain_qwen.cli.commands import COMMANDS, completions
from langchain_qwen.cli.conversation import Conversation
from langchain_qwen.cli.lines import joined
from langchain_qwen.cli.markdown import _PARSER, split
from langchain_qwen.errors import ContextOverflowError, EngineError, ModelNotFoundError
from tests.terminal import heed_interrupts


def texts(messages):
    return [(message.type, message.text) for message in messages]


def overflow() -> ContextOverflowError:
    return ContextOverflowError("too long", prompt_tokens=1234, reserved_tokens=1, context_window=1000)


def test_the_model_sees_the_conversation(run, use):
    model = use("Hello Ann.", "Your name is Ann.")
    result = run("chat", "--system", "Be kind.", input="I am Ann.\n\nWho am I?\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello Ann.\nYour name is Ann.\n", "")
    asked = [("system", "Be kind."), ("human", "I am Ann.")]
    assert texts(model.seen[0]) == asked
    assert texts(model.seen[1]) == [*asked, ("ai", "Hello Ann."), ("human", "Who am I?")]


def test_lines_that_go_on(run, use):
    model = use("yes", "yes")
    run("chat", input="one\\\ntwo\\\n\\\nthree\nlast\\")
    assert [seen[-1].text for seen in model.seen] == ["one\ntwo\n\nthree", "last"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="\n\\")), min_size=1))
def test_lines_are_joined_as_they_were_typed(lines):
    typed = iter([line + "\\" for line in lines[:-1]] + [lines[-1]])
    assert joined(lambda _: next(typed)) == "\n".join(lines)


def test_ctrl_c_stops_the_answer_and_not_the_chat(run, use):
    model = use(["Once", "upon", KeyboardInterrupt()], "The end.")
    result = run("chat", input="a story\ngo on\n")
    assert result.exit_code == 0
    assert result.stdout == "Once upon\nThe end.\n"
    assert "(stopped)" in result.stderr
    assert texts(model.seen[1]) == [("human", "a story"), ("ai", "Once upon"), ("human", "go on")]


def test_ctrl_c_before_the_answer_leaves_no_trace(run, use):
    model = use([KeyboardInterrupt()], "yes", "again")
    result = run("chat", input="first\nsecond\n/retry\n")
    assert "stopped before the answer" in result.stderr
    assert texts(model.seen[1]) == [("human", "second")]
    assert "nothing to send again" in result.stderr  # the second message was answered


def test_ctrl_c_at_the_prompt(run, use, monkeypatch):
    use("yes")
    lines = iter([KeyboardInterrupt, "hi"])

    def read() -> str:
        line = next(lines, EOFError)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("langchain_qwen.cli.chat.line_reader", lambda _: read)
    result = run("chat")
    assert result.exit_code == 0
    assert "/exit or Ctrl-D leaves" in result.stderr
    assert result.stdout.endswith("yes\n")


def test_a_conversation_that_no_longer_fits(run, use):
    model = use("yes", [overflow()], "again")
    result = run("chat", "--system", "S", input="first\nsecond\n/reset\n/retry\n")
    assert "1,234 tokens" in result.stderr
    assert "1,000" in result.stderr
    assert "/retry sends your last message" in result.stderr
    assert result.stdout == "yes\nagain\n"
    assert texts(model.seen[2]) == [("system", "S"), ("human", "second")]


def test_an_empty_answer_can_be_asked_for_again(run, use):
    model = use([], "yes")
    result = run("chat", input="hi\n/retry\n")
    assert "an empty answer" in result.stderr
    assert result.stdout == "yes\n"
    assert texts(model.seen[1]) == [("human", "hi")]


def test_an_error_is_told_and_the_chat_goes_on(run, use):
    model = use(["half", EngineError("the step failed")], [EngineError("again")], "yes")
    result = run("chat", input="first\nsecond\n/retry\n")
    assert "the step failed" in result.stderr
    assert result.stdout == "half\nyes\n"
    assert texts(model.seen[2]) == [("human", "first"), ("ai", "half"), ("human", "second")]


def test_a_bug_is_not_hidden(run, use):
    use([ZeroDivisionError()])
    assert isinstance(run("chat", input="hi\n").exception, ZeroDivisionError)


def test_system(run, use):
    model = use("yes")
    result = run("chat", input="/system\n/system Be brief.\n/system\nhi\n")
    assert result.stdout == "There is no system message; /system TEXT sets one.\nBe brief.\nyes\n"
    assert texts(model.seen[0]) == [("system", "Be brief."), ("human", "hi")]


def test_reset_keeps_the_system_message(run, use):
    model = use("yes", "no")
    run("chat", "--system", "S", input="one\n/reset\ntwo\n")
    assert texts(model.seen[1]) == [("system", "S"), ("human", "two")]


def test_stats(run, use):
    use("four words are here")
    result = run("chat", "--system", "S", input="/stats\ntwo words\n/stats\n")
    assert result.stdout.splitlines() == [
        "conversation: 1 of 100 tokens, 99 left",
        "four words are here",
        "conversation: 7 of 100 tokens, 93 left",
        "last prompt: 3 tokens, 7 of them cached; read in 0.5 s",
        "last answer: 4 tokens, 12.3 tokens/s",
    ]


def test_stats_of_nothing(run, use):
    use()
    assert run("chat", input="/stats\n").stdout == "conversation: 0 of 100 tokens, 100 left\n"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("/sytem x", "mean /system?"), ("/stat", "mean /stats?"), ("/quit", "mean /exit?"), ("/x", "/help")],
)
def test_an_unknown_command_names_the_nearest(run, use, typed, hint):
    model = use()
    result = run("chat", input=f"{typed}\n")
    assert f"there is no {typed.split()[0]}; " in result.stderr
    assert hint in result.stderr
    assert not model.seen


def test_a_message_may_begin_with_a_slash_after_a_space(run, use):
    model = use("a folder")
    run("chat", input=" /etc is what?\n")
    assert texts(model.seen[0]) == [("human", " /etc is what?")]


def test_help_names_every_command_and_exit_leaves(run, use):
    model = use()
    result = run("chat", input="/help\n/exit\nnever sent\n")
    for command in (
        "/system",
        "/reset",
        "/retry",
        "/stats",
        "/model",
        "/temperature",
        "/save",
        "/save!",
        "/load",
        "/help",
        "/exit",
    ):
        assert command in result.stdout
    assert not model.seen


def test_save_and_load(run, use, tmp_path):
    model = use("你好 שלום", "second")
    file = tmp_path / "my chat.json"
    first = run("chat", "--system", "S", input=f"hi\n/save {file}\n/save {file}\n/save! {file}\n/save\n")
    assert "exists; /save! " in first.stderr
    assert "/save FILE" in first.stderr
    assert first.stderr.count("(saved") == 2
    said = [("system", "S"), ("human", "hi"), ("ai", "你好 שלום")]
    assert "你好" in file.read_text(encoding="utf-8")
    run("chat", input=f"/load {file}\nmore\n")
    assert texts(model.seen[-1]) == [*said, ("human", "more")]


def test_load_at_the_start(run, use, tmp_path):
    file = tmp_path / "chat.json"
    Conversation("S", [HumanMessage("hi"), AIMessage("yes")]).save(file, overwrite=False)
    model = use("one", "two")
    run("chat", "--load", file, input="more\n")
    run("chat", "--load", file, "--system", "T", input="more\n")
    assert texts(model.seen[0]) == [("system", "S"), ("human", "hi"), ("ai", "yes"), ("human", "more")]
    assert texts(model.seen[1])[0] == ("system", "T")


def test_conversations_survive_the_disk(tmp_path):
    calls = [{"name": "f", "args": {"x": [1, None]}, "id": "1", "type": "tool_call"}]
    turns = [HumanMessage("q"), AIMessage("", tool_calls=calls), ToolMessage("r", tool_call_id="1"), AIMessage("a")]
    for number, system in itertools.product(range(len(turns)), (None, "S")):
        before = Conversation(system, turns[:number])
        before.save(tmp_path / "c.json", overwrite=True)
        assert Conversation.load(tmp_path / "c.json").messages == before.messages


def test_bytes_of_another_encoding_are_not_saved(run, use, tmp_path):
    use("yes")
    (tmp_path / "c.json").write_text("kept")
    result = run("chat", "--system", "caf\udce9", input=f"/save! {tmp_path / 'c.json'}\n/system ok\n")
    assert (result.exit_code, "system message is not UTF-8 text" in result.stderr) == (0, True)
    assert (tmp_path / "c.json").read_text() == "kept"


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '[{"type": "human"}]', '{"a": 1}', '"text"', "[[]]", "[" * 100_000]
)
def test_a_file_that_is_no_conversation(run, use, tmp_path, content):
    model = use("yes")
    file = tmp_path / "c.json"
    file.write_text(content)
    at_start = run("chat", "--load", file)
    assert at_start.exit_code == 1
    assert "holds no conversation" in at_start.stderr
    later = run("chat", input=f"hi\n/load {file}\n/load {tmp_path / 'none'}\n/load\n/load ~no-such-user/c\n")
    assert "holds no conversation" in later.stderr
    assert "cannot be read" in later.stderr
    assert later.exit_code == 0
    assert len(model.seen) == 1


def test_saving_where_one_cannot(run, use, tmp_path):
    use("yes")
    result = run("chat", input=f"hi\n/save {tmp_path / 'no' / 'c.json'}\n")
    assert "cannot be written" in result.stderr


def test_what_is_saved_is_plain_langchain(tmp_path):
    Conversation("S", [HumanMessage("hi")]).save(tmp_path / "c.json", overwrite=False)
    assert [entry["type"] for entry in json.loads((tmp_path / "c.json").read_text())] == ["system", "human"]


def test_a_piped_line_that_is_not_text(run, use):
    use("yes")
    result = run("chat", input=b"caf\xe9\nhi\n")
    assert "not UTF-8" in result.stderr
    assert result.stdout == "yes\n"


EOF = "\x04"


def chat_in_a_terminal(cache, **environment):
    pexpect = pytest.importorskip("pexpect")
    chat = pexpect.spawn(
        sys.executable,
        ["-m", "tests.unit_tests.cli.scripted", "endless", "chat"],
        encoding="utf-8",
        timeout=60,
        env={"TERM": "dumb", "PATH": "", "LANGCHAIN_QWEN_CACHE": str(cache), **environment},
        preexec_fn=heed_interrupts,
    )
    chat.expect_exact(">>>")
    return chat


def leave(chat, end=EOF):
    chat.expect_exact(">>>")
    chat.send(end)
    chat.expect(chat.eof)
    chat.close()
    assert chat.exitstatus == 0
    assert "Traceback" not in chat.before


def test_in_a_terminal(tmp_path):
    chat = chat_in_a_terminal(tmp_path)
    chat.eof = pytest.importorskip("pexpect").EOF
    chat.sendline("count")
    chat.expect_exact("line 3")
    chat.sendintr()
    chat.expect_exact("(stopped)")
    chat.expect_exact(">>>")
    chat.send("half a mess")
    chat.expect_exact("half a mess")
    chat.sendintr()
    chat.expect_exact("(/exit or Ctrl-D leaves)")
    chat.expect_exact(">>>")
    chat.sendline("/system two \\")
    chat.sendline("lines")
    chat.expect_exact("(the next answers follow it)")
    chat.expect_exact(">>>")
    chat.sendline("/system")
    chat.expect(r"two \s+lines")
    leave(chat, "/exit\n")  # a dumb terminal shows its prompt before it reads keys, and Ctrl-D is one
    history = tmp_path / "chat_history"
    assert "+count" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0


def test_what_was_typed_comes_back_in_the_next_chat(tmp_path):
    chat = chat_in_a_terminal(tmp_path, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1")
    chat.eof = pytest.importorskip("pexpect").EOF
    chat.sendline("/system from the first chat")
    chat.expect_exact("(the next answers follow it)")
    leave(chat)
    chat = chat_in_a_terminal(tmp_path, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1")
    chat.eof = pytest.importorskip("pexpect").EOF
    chat.send("\x1b[A\r")  # arrow up
    chat.expect_exact("(the next answers follow it)")
    chat.expect_exact(">>>")
    chat.send("/pers\t\r")
    chat.expect_exact("Now: none")
    leave(chat)


def test_markdown_is_laid_out_while_it_arrives(run, use, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=30, height=12, color_system=None)
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    answer = "# Trees\n\nThe **oak** is a large tree that grows slowly.\nIt is <b>old</b>.\n\n1. one\n2. two\n\n"
    answer += "```python\nx = 1\n```\n"
    pieces = [answer[i : i + 3] for i in range(0, len(answer), 3)]
    with terminal.answering() as writer:
        for piece in pieces:
            writer.write(piece)
    final = last_screen(screen.getvalue())
    assert [line.rstrip() for line in final] == [
        "Trees",
        "",
        "The oak is a large tree that",
        "grows slowly.",
        "It is <b>old</b>.",
        "",
        " 1 one",
        " 2 two",
        "",
        "x = 1",
    ]


def last_screen(written):
    """What a terminal shows in the end: of the escapes that rich uses, those that move up and erase."""
    lines, row = [""], 0
    for escape, text in re.findall(r"(\x1b\[[?\d;]*[a-zA-Z])|([^\x1b]+)", written):
        if escape == "\x1b[2K":
            lines[row] = ""
        elif escape.endswith("A"):
            row -= int(escape[2:-1] or 1)
        for part in re.findall(r"\r|\n|[^\r\n]+", text):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif part != "\r":
                lines[row] += part
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.sampled_from(["# h", "text", "", "- a", "- b", "1. x", "```", "x = 1", "| a | b |", "|---|---|", "> q"]),
        max_size=14,
    )
)
def test_blocks_are_split_where_nothing_changes_any_more(lines):
    whole = "".join(f"{line}\n" for line in lines)
    shown, text = "", ""
    for line in lines:
        complete, text = split(text + f"{line}\n")
        shown += complete
    assert shown + text == whole
    parts = [token.type for part in (shown, text) for token in _PARSER.parse(part) if token.level == 0]
    assert parts == [token.type for token in _PARSER.parse(whole) if token.level == 0]


def test_model_and_temperature(run, use):
    model = use("one", "two")
    result = run(
        "chat", input="/model\n/model coder-0.5b\none\n/temperature\n/temperature 0.2\n/temperature\n/temperature hot\n"
    )
    assert result.stdout.splitlines() == ["Qwen/Qwen2.5-1.5B-Instruct", "one", "that of the checkpoint", "0.2"]
    assert "hot is no number" in result.stderr
    options = model.metadata["options"]
    assert (options.model, options.temperature) == ("coder-0.5b", 0.2)


def test_a_model_that_is_not_there_changes_nothing(run, use, monkeypatch):
    use("one")
    made = models.make_model

    def make(options, **arguments):
        if options.model == "none":
            raise ModelNotFoundError("no such model")
        return made(options, **arguments)

    monkeypatch.setattr(models, "make_model", make)
    result = run("chat", input="/model none\nhi\n/model\n")
    assert result.stdout == "one\nQwen/Qwen2.5-1.5B-Instruct\n"
    assert "no such model" in result.stderr


def test_completions():
    assert list(completions("/st")) == ["/stats"]
    assert list(completions("/model coder-1")) == ["/model coder-1.5b"]
    assert "/persona tutor" in completions("/persona ")
    assert list(completions("hello")) == []
    assert set(completions("/")) == set(COMMANDS)


def test_system_message_is_the_first_and_only_one():
    assert Conversation("S", [HumanMessage("q")]).messages == [SystemMessage("S"), HumanMessage("q")]
    assert Conversation().messages == []
