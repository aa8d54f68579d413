"""Personas and scripts in the chat."""

from __future__ import annotations

import os
import pty

import pytest

from langchain_qwen.cli import terminal
from tests.terminal import read_to_end

MANY_SCRIPTS = "中文，日本語と한국어。 العربية: مرحبًا ١٢٣. می‌خواهم. עברית! ไทย हिन्दी é 👩‍👩‍👧 a\u200fb\n\tend"


def test_a_persona_answers(run, use):
    model = use("Paris.", "Paris!")
    result = run("chat", "--persona", "concise", input="Capital of France?\n/persona none\nAgain?\n")
    assert (result.exit_code, result.exception, result.stdout) == (0, None, "Paris.\nParis!\n")
    assert model.seen[0][0].text.startswith("You answer questions directly.")
    assert [m.type for m in model.seen[1]] == ["human", "ai", "human"]


def test_a_language(run, use):
    model = use("Paris.", "Paris.")
    run("chat", "--language", "de", input="Capital of France?\n/language Italian\nReally?\n")
    assert model.seen[0][-1].text == "Capital of France?\n\n" + (
        "Antworte auf Deutsch, auch wenn andere Texte in einer anderen Sprache sind."
    )
    assert "Rispondi in italiano" in model.seen[1][-1].text
    assert "Antworte" not in model.seen[1][1].text  # only the latest message is added to


def test_a_file(run, use, tmp_path):
    path = tmp_path / "cat.yaml"
    path.write_text("instructions: You are a cat.\n", encoding="utf-8")
    model = use("Meow.")
    run("chat", input=f"/persona {path}\nHello\n")
    assert model.seen[0][0].text == "You are a cat."


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/persona consise", "did you mean 'concise'"),
        ("/persona missing.yaml", "cannot be read"),
        ("/persona translator", "needs a value for target"),
        ("/language elvish", "not known"),
    ],
)
def test_mistakes(run, use, command, message):
    use()
    result = run("chat", input=f"{command}\n")
    assert result.exit_code == 0
    assert message in result.stderr


def test_what_there_is(run, use):
    use()
    result = run("chat", input="/persona\n/language\n/language auto\n/language\n/tokens\n")
    assert "tutor" in result.stdout
    assert "Now: none" in result.stdout
    assert "auto" in result.stdout


def test_a_wrong_option(run):
    result = run("chat", "--persona", "nobody")
    assert result.exit_code == 1
    assert "no built-in persona" in result.stderr


def shown(pieces):
    """What reaches a terminal that pieces are written to."""
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        for piece in pieces:
            terminal.write(piece)
    text = read_to_end(leader).decode("utf-8").replace("\r\n", "\n")
    os.close(leader)
    return text


def test_wide_and_right_to_left_text_arrives_as_it_is():
    """In logical order, unbroken, with its joiners and marks, however it is cut: the terminal lays it out."""
    assert shown(MANY_SCRIPTS) == MANY_SCRIPTS
    assert shown([MANY_SCRIPTS[:7], MANY_SCRIPTS[7:]]) == MANY_SCRIPTS


def test_an_answer_cannot_turn_round_what_follows():
    assert shown(["safe \u202egnp.exe\u2066 and on\x1b[2J"]) == "safe gnp.exe and on\ufffd[2J"
