"""The wheel in an environment without a compiler, the sources, torch and transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from langchain_qwen.engine.runners.cpu import kernels
from tests.tiny import make_tiny_checkpoint
from tests.unit_tests.checkpoints.gguf_files import write_gguf
from tests.unit_tests.test_without_torch import CHAT_MODEL, CONVERT, NEEDS_TORCH, PARTS
from tests.wheel_tests.conftest import ROOT, Run

ABOUT = """
import importlib.util, json, pathlib, shutil
import langchain_qwen
from langchain_qwen.engine.runners.cpu import kernels, library
print(json.dumps({
    "programs": [name for name in ("cc", "gcc", "clang", "c++", "ld", "as") if shutil.which(name)],
    "modules": [name for name in ("torch", "transformers", "tests") if importlib.util.find_spec(name)],
    "package": langchain_qwen.__file__, "library": str(library.PATH), "kernels": kernels.choose(),
    "tables": [table.name for table in kernels.tables()],
}))
"""

ANSWERS = """
from langchain_qwen import ChatQwen
for precision in ("int4", "int8", "bf16"):
    with ChatQwen(model=MODEL, precision=precision, temperature=0, max_tokens=40, logprobs=True) as model:
        answer = model.invoke("Tell me of the mill, the bridge and the weather.")
        logprobs = [entry["logprob"] for entry in answer.response_metadata["logprobs"]["content"]]
        print(precision, answer.text.encode(), logprobs)
"""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts are long in single bytes."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("model") / "m", window=8192)


def code(text: str, **names: object) -> tuple[str, str, str]:
    return "python", "-c", "".join(f"{name} = {str(value)!r}\n" for name, value in names.items()) + text


def test_it_brings_the_fast_engine(run: Run):
    about = json.loads(run(*code(ABOUT)).stdout)
    assert about["programs"] == about["modules"] == []
    assert not Path(about["package"]).is_relative_to(ROOT)
    assert Path(about["library"]).parent.is_relative_to(Path(about["package"]).parent)
    assert {table.name for table in kernels.tables()} <= set(about["tables"])  # all that the compiler here could make
    assert about["kernels"] == kernels.choose()


def test_its_answers_are_those_of_a_build_from_source(run: Run, checkpoint: Path):
    """Two compilers, the same bits."""
    arguments = code(ANSWERS, MODEL=checkpoint)
    here = subprocess.run([sys.executable, *arguments[1:]], capture_output=True, text=True, check=True, cwd=ROOT)
    there = run(*arguments)
    assert here.stdout.count(" b") >= 3  # one for each precision
    assert there.stdout == here.stdout


@pytest.mark.parametrize("text", [CHAT_MODEL, PARTS, NEEDS_TORCH], ids=["chat model", "parts", "what needs torch"])
def test_the_library(run: Run, checkpoint: Path, text: str):
    run(*code(text, MODEL=checkpoint))


def test_a_pulled_file_is_converted(run: Run, checkpoint: Path, tmp_path: Path):
    run(*code(CONVERT, MODEL=tmp_path / "m", GGUF=write_gguf(checkpoint, tmp_path / "tiny.gguf")))


def test_the_command_line(run: Run, checkpoint: Path):
    assert run(
        "langchain-qwen", "ask", "--temperature", "0", "--max-tokens", "8", "-m", str(checkpoint), stdin="hello"
    ).stdout
    told = json.loads(run("langchain-qwen", "doctor", "--json", "-m", str(checkpoint)).stdout)
    assert told["usable"]
    assert told["facts"]["kernels"] == kernels.choose()
    assert told["facts"]["torch_build"] is None
    assert not [finding for finding in told["findings"] if finding["level"] == "problem"]
