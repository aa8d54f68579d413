"""A server over the tiny checkpoint, and the same model on this machine to compare with."""

from __future__ import annotations

import httpx
import pytest

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import resolve
from tests.completions_server import URL, CompletionsServer, reached_over


@pytest.fixture(scope="package")
def local(tiny_checkpoint):
    with ChatQwen(model=str(tiny_checkpoint), precision="int8", max_tokens=16, temperature=0) as model:
        model.load()
        yield model


@pytest.fixture(scope="package")
def server(local, tmp_path_factory):
    socket = tmp_path_factory.mktemp("server") / "s"
    engine, tokenizer = local._backend.engine(resolve(local.model)), local._open().tokenizer
    with reached_over(socket), CompletionsServer(socket, engine, tokenizer, served=("qwen", "other")) as server:
        yield server


@pytest.fixture(autouse=True)
def settled(server):
    """No test meets what was asked or left by the one before, whose client may have given up before it was heard."""
    yield
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.socket)), timeout=60) as client:
        client.get(f"{URL}/models").raise_for_status()  # heard behind all that came before
    server.faults.clear()


@pytest.fixture
def remote(server, tiny_checkpoint):
    server.faults.clear()
    server.requests.clear()
    arguments = {"base_url": URL, "model": "qwen", "tokenizer": str(tiny_checkpoint), "max_retries": 2}
    with ChatQwen(**arguments, max_tokens=16, temperature=0) as model:
        yield model
    assert not server.faults, "a fault that nobody met"
