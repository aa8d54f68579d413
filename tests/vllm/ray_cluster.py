"""Ray Serve LLM on this machine's CPU: deploy/ray_serve.yaml with two replicas, a small window and no GPU."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
REPLICAS = 2
WINDOW = 4096
KV_CACHE_BYTES = 1 << 28
# More than there are: Ray counts them, and does not place what has none left.
CPUS = 16
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
START_S = 900


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def configuration(weights: Path, port: int) -> dict[str, Any]:
    """The file that is deployed, changed for this machine."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "ray_serve.yaml").read_text(encoding="utf-8"))
    found["proxy_location"] = "HeadOnly"
    found["http_options"] = {"host": "127.0.0.1", "port": port}
    (model,) = found["applications"][0]["args"]["llm_configs"]
    model["model_loading_config"]["model_source"] = str(weights)
    del model["accelerator_type"]
    model["accelerator_config"] = {"kind": "cpu"}
    model["deployment_config"] = {"num_replicas": REPLICAS, "max_ongoing_requests": 64}
    del model["engine_kwargs"]["gpu_memory_utilization"]
    model["engine_kwargs"] |= {
        "max_model_len": WINDOW,
        "enforce_eager": True,
        "kv_cache_memory_bytes": KV_CACHE_BYTES,
    }
    model["runtime_env"] = {"env_vars": SETTINGS}
    return found


@contextlib.contextmanager
def ray_serve(environment: Path, weights: Path, logs: Path) -> Iterator[str]:
    """A cluster of one node with the model; its `base_url`.

    Args:
        environment: Where vLLM and Ray are installed.
        weights: The checkpoint.
        logs: Where to write what the processes say.
    """
    programs = environment.absolute() / "bin"
    if not (programs / "serve").exists():
        pytest.skip(f"there is no Ray in {environment}; `make test-ray` installs it")
    node, port = free_port(), free_port()
    file, settings = logs / "ray_serve.yaml", {**os.environ, **SETTINGS, "RAY_ADDRESS": f"127.0.0.1:{node}"}
    settings["PATH"] = f"{programs}{os.pathsep}{settings['PATH']}"
    file.write_text(yaml.safe_dump(configuration(weights, port)), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="r") as sockets:  # their paths must not be long
        start = ["start", "--head", "--block", "--port", str(node), "--num-cpus", str(CPUS)]
        start += ["--include-dashboard=false", "--object-store-memory", "100000000", "--temp-dir", sockets]
        with contextlib.ExitStack() as running:
            running.enter_context(_running([str(programs / "ray"), *start], settings, logs / "ray"))
            _wait_for_port(node, logs / "ray")
            serve = [str(programs / "serve"), "run", str(file)]
            server = running.enter_context(_running(serve, settings, logs / "serve"))
            url = f"http://127.0.0.1:{port}/v1"
            _wait_for_model(server, url, logs / "serve")
            yield url


@contextlib.contextmanager
def _running(command: list[str], settings: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=dict(settings), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        for left in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


def _wait_for_port(port: int, log: Path) -> None:
    for _ in range(120):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(1)
    pytest.fail(f"Ray did not start; its last words:\n{log.read_text()[-3000:]}")


def _wait_for_model(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/models", timeout=10).is_success:
                return
        time.sleep(2)
    pytest.fail(f"Ray Serve did not start the model; its last words:\n{log.read_text()[-3000:]}")
