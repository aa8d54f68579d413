"""A real vLLM server on this machine's CPU, alone or under Ray Serve with two replicas, with the real 0.5B.

`make test-vllm` makes its environment (environment.py) and starts one for the session; `make test-ray` does so with
Ray (LANGCHAIN_QWEN_RAY names its environment). LANGCHAIN_QWEN_SERVER names the `base_url` of one that runs already,
with the name `qwen` for the model.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import resolve
from langchain_qwen.checkpoints.pulling import in_safetensors
from tests.vllm.ray_cluster import free_port, ray_serve

MODEL = "coder-0.5b"
SERVED = "qwen"
WINDOW = 8192
RAY = os.environ.get("LANGCHAIN_QWEN_RAY", "")
ENVIRONMENT = Path(os.environ.get("LANGCHAIN_QWEN_VLLM", Path(__file__).parents[2] / ".venv-vllm"))
START_S = 600  # it takes one to three minutes
SETTINGS = {
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # by default it leaves a core idle
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "OMP_NUM_THREADS": "1",  # more of them wait for one another where the machine has other work, twenty times as long
    "KMP_BLOCKTIME": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
FLAGS = (
    *("--dtype", "bfloat16", "--max-model-len", str(WINDOW), "--enforce-eager", "--generation-config", "vllm"),
    *("--enable-prompt-tokens-details", "--structured-outputs-config.backend", "guidance"),
)


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the server is."""
    if running := os.environ.get("LANGCHAIN_QWEN_SERVER"):
        yield running
        return
    logs = tmp_path_factory.mktemp("server")
    with ray_serve(Path(RAY), weights(), logs) if RAY else _vllm(logs) as found:
        yield found


@contextlib.contextmanager
def _vllm(logs: Path) -> Iterator[str]:
    vllm = ENVIRONMENT / "bin" / "vllm"
    if not vllm.exists():
        pytest.skip(f"there is no vLLM in {ENVIRONMENT}; `make test-vllm` installs it")
    log, port = logs / "log", free_port()
    command = [str(vllm), "serve", str(weights()), "--served-model-name", SERVED]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *FLAGS],
            env={**os.environ, **SETTINGS},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def weights() -> Path:
    """The checkpoint in safetensors, as vLLM reads it."""
    return in_safetensors(resolve(MODEL), "bf16").path


def engine_of(model: ChatQwen) -> Any:
    """What generates."""
    return model._backend.engine(model._open().checkpoint)


def prompt(model: ChatQwen, text: str) -> tuple[int, ...]:
    """Ids of a conversation of one message."""
    return tuple(model.prompter.encode([HumanMessage(text)]))


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(f"{address}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    pytest.fail(f"vLLM did not start; its last words:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def model(base_url: str) -> Iterator[ChatQwen]:
    """The server's model."""
    with ChatQwen(base_url=base_url, model=SERVED, tokenizer=MODEL, temperature=0, max_tokens=200) as model:
        model.load()
        yield model
