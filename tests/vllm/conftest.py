"""A real vLLM server on this machine's CPU, with the real 0.5B.

`make test-vllm` makes its environment (environment.py) and starts one for the session. LANGCHAIN_QWEN_SERVER names the
`base_url` of one that runs already, with the name `qwen` for the model.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import resolve

MODEL = "coder-0.5b"
SERVED = "qwen"
WINDOW = 8192
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
    vllm = ENVIRONMENT / "bin" / "vllm"
    if not vllm.exists():
        pytest.skip(f"there is no vLLM in {ENVIRONMENT}; `make test-vllm` installs it")
    log = tmp_path_factory.mktemp("vllm") / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(vllm), "serve", str(resolve(MODEL).path), "--served-model-name", SERVED]
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
