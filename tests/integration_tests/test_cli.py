"""The command line on a real checkpoint, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.integration_tests.conftest import MODEL, PRECISION
from tests.terminal import heed_interrupts

COMMAND = [sys.executable, "-c", "from langchain_qwen.cli import main; main()"]
OPTIONS = ["--model", MODEL, "--precision", PRECISION, "--temperature", "0"]


def run(*arguments: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], input=piped, capture_output=True, encoding="utf-8", timeout=300)


def test_ask():
    result = run("ask", *OPTIONS, "--max-tokens", "8", "Name a colour.")
    assert result.returncode == 0, result.stderr
    assert 0 < len(result.stdout.split()) <= 8
    assert result.stderr in ("", "(cut after 8 tokens; --max-tokens allows a longer answer)\n")


def test_ask_for_json_about_a_pipe(tmp_path):
    properties = {"city": {"type": "string", "maxLength": 30}, "year": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    text = "The bridge in Prague was finished in 1402."
    result = run("ask", *OPTIONS, "--schema", str(tmp_path / "schema.json"), "Which city, and when?", piped=text)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"city": "Prague", "year": 1402}


def test_doctor():
    result = run("doctor", "--model", MODEL, "--json")
    report = json.loads(result.stdout)
    assert report["usable"] == (result.returncode == 0)
    assert report["folder"]


def test_chat_in_a_terminal(tmp_path):
    pexpect = pytest.importorskip("pexpect")
    arguments = [*COMMAND[1:], "chat", *OPTIONS]
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
    chat = pexpect.spawn(
        COMMAND[0], arguments, encoding="utf-8", timeout=120, env=environment, preexec_fn=heed_interrupts
    )
    chat.expect_exact(">>> ")
    chat.sendline("Count from 1 to 500, separated by commas.")
    chat.expect(r"\b7, *8, *9")
    chat.sendintr()
    chat.expect_exact("(stopped)")
    chat.expect_exact(">>> ")
    chat.sendline("Stop. Say only: done")
    chat.expect_exact(">>> ")
    chat.sendline("/stats")
    chat.expect(r"conversation: \d+ of 32,768 tokens")
    chat.expect(r"last prompt: (\d+) tokens, (\d+) of them cached")
    prompt, cached = map(int, chat.match.groups())
    assert 0 < cached < prompt  # the first turn was not computed again
    chat.expect_exact(">>> ")
    chat.sendline(f"/save {tmp_path / 'chat.json'}")
    chat.expect_exact("(saved")
    chat.expect_exact(">>> ")
    chat.sendline("/exit")
    chat.expect(pexpect.EOF)
    chat.close()
    assert chat.exitstatus == 0
    kinds = [message["type"] for message in json.loads((tmp_path / "chat.json").read_text(encoding="utf-8"))]
    assert kinds == ["human", "ai", "human", "ai"]
