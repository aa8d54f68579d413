"""The peer OpenVINO GenAI, in an environment of its own.

    pip install torch==2.13.0 && pip install openvino-genai optimum-intel nncf && pip uninstall --yes torchvision

Without the last, a torchvision built for CUDA keeps the conversion from importing beside a torch for CPUs.

The model is made once from the checkpoint's 16-bit weights: int4, symmetric, groups of 128, the output layer in int8.
"""

from __future__ import annotations

import json
import subprocess
from argparse import ArgumentParser
from pathlib import Path

from benchmarks.llama_cpp import FOLDER
from langchain_qwen.checkpoints import Checkpoint, cache_root
from langchain_qwen.checkpoints.pulling import in_safetensors

NAME = "OpenVINO"
WORKER = Path(__file__).with_name("openvino_worker.py")


def add_option(parser: ArgumentParser) -> None:
    """The option that names the environment's interpreter."""
    parser.add_argument("--openvino", metavar="PYTHON", help="a Python with openvino-genai, optimum-intel and nncf")


def openvino(python: str | None, checkpoint: Checkpoint, *, threads: int) -> OpenVino | None:
    """The peer, or None and a line that says so where no interpreter was named."""
    if python is None:
        print(f"{NAME} left out: --openvino names no interpreter")
        return None
    return OpenVino(python, checkpoint, threads=threads)


class OpenVino:
    """One model in a subprocess, which is idle but for the time of each call."""

    def __init__(self, python: str, checkpoint: Checkpoint, *, threads: int):
        folder = _converted(python, in_safetensors(checkpoint, "bf16"))
        command = [python, "-I", str(WORKER), str(folder), str(threads)]  # -I: this file's name is not the package's
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._answer()["version"]
        print(f"openvino-genai {self.version}")

    def prefill(self, ids: list[int]) -> float:
        """Seconds for a prompt and its first token."""
        return float(self._ask(ids, 1)["first"])

    def decode(self, ids: list[int], count: int) -> float:
        """Seconds for `count` greedy tokens after the first one."""
        return float(self._ask(ids, count + 1)["rest"])

    def close(self) -> None:
        """End the subprocess."""
        self._process.communicate()

    def _ask(self, ids: list[int], count: int) -> dict[str, float]:
        assert self._process.stdin is not None
        print(json.dumps({"ids": ids, "count": count}), file=self._process.stdin, flush=True)
        answer = self._answer()
        return {"first": float(answer["first"]), "rest": float(answer["rest"])}

    def _answer(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"OpenVINO's process ended with code {self._process.wait()}; its error is above")
        answer: dict[str, str] = json.loads(line)
        return answer


def _converted(python: str, checkpoint: Checkpoint) -> Path:
    """The folder with the model as OpenVINO reads it."""
    folder = cache_root() / FOLDER / f"{checkpoint.path.name}-openvino"
    if not folder.exists():
        print(f"making {folder.name} ...", flush=True)
        partial = folder.with_name(f"{folder.name}.partial")
        command = [python, "-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", str(checkpoint.path)]
        command += ["--task", "text-generation-with-past", "--weight-format", "int4", "--sym", "--group-size", "128"]
        subprocess.run([*command, str(partial)], check=True)
        partial.replace(folder)
    return folder
