"""`langchain-qwen doctor --base-url`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from langchain_qwen.cli.app import app
from langchain_qwen.cli.doctor.server import KEY
from tests.completions_server import URL
from tests.unit_tests.remote.test_failures import after, hang, status


def run(tiny_checkpoint, *more, url=URL):
    arguments = ["doctor", "--base-url", url, "--model", "qwen", "--tokenizer", str(tiny_checkpoint), *more]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.exit_code, result.stdout


def checks(tiny_checkpoint):
    code, out = run(tiny_checkpoint, "--json")
    told = json.loads(out)
    assert told["usable"] is (code == 0)
    return {check["name"]: check for check in told["checks"]}, told["usable"]


def test_a_server_that_can_do_all(server, tiny_checkpoint):
    found, usable = checks(tiny_checkpoint)
    assert usable
    assert [*found] == ["reachable", "token ids", "tokenizer", "grammars", "cached tokens"]
    assert not [check for check in found.values() if check["todo"]]
    code, out = run(tiny_checkpoint)
    assert code == 0
    assert "can be used" in out


def test_cached_tokens_are_no_need(server, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(server, "tells_cached", False)
    found, usable = checks(tiny_checkpoint)
    assert usable
    assert "--enable-prompt-tokens-details" in found["cached tokens"]["todo"]


@pytest.mark.parametrize(
    ("faults", "name", "words"),
    [
        ([status(404, {"detail": "Not Found"})], "token ids", "404"),
        ([None, after(39, 40, then=hang)], "tokenizer", "timeout"),
        ([None, None, status(500, {"error": {"message": "xgrammar failed"}})], "grammars", "guidance"),
    ],
)
def test_what_it_cannot_do_is_named(server, tiny_checkpoint, monkeypatch, faults, name, words):
    monkeypatch.setattr("langchain_qwen.cli.doctor.server.TIMEOUT_S", 6.0)

    async def as_always(exchange):
        await server._generate(exchange)

    server.faults.extend([fault or as_always for fault in faults])
    found, usable = checks(tiny_checkpoint)
    assert not usable
    assert words in found[name]["found"]
    assert not server.faults


def test_the_key_comes_from_the_environment(server, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(server, "key", "right")
    found, usable = checks(tiny_checkpoint)
    assert not usable
    assert KEY in found["reachable"]["todo"]
    monkeypatch.setenv(KEY, "right")
    found, usable = checks(tiny_checkpoint)
    assert usable
    assert "right" not in json.dumps(found)


def test_a_server_that_is_none(server, tiny_checkpoint):
    code, out = run(tiny_checkpoint, url="http://server/nothing")
    assert code == 1
    assert "/v1" in out
