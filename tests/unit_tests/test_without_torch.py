"""What runs on the CPU engine runs where torch and transformers are not installed; what does not, says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import make_tiny_checkpoint
from tests.unit_tests.checkpoints.gguf_files import write_gguf

# As if they were not installed, for the process and all that it imports.
REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""

CHAT_MODEL = """
import asyncio, pydantic
from langchain_qwen import ChatQwen

class Answer(pydantic.BaseModel):
    yes: bool

def weather(city: str) -> str:
    "Weather of a city."

model = ChatQwen(model=MODEL, temperature=0, max_tokens=8)
model.warm([])
assert model.invoke("hello").usage_metadata["output_tokens"]
assert "".join(chunk.text for chunk in model.stream("hello")) == model.invoke("hello").text

async def both():
    return [c async for c in model.astream("hello")] and await model.ainvoke("hello")

assert asyncio.run(both()).text == model.invoke("hello").text
assert len(model.batch(["a", "b"])) == 2
assert isinstance(model.with_structured_output(Answer).invoke("well?", max_tokens=64), Answer)
assert model.bind_tools([weather]).invoke("hello") is not None
forced = model.bind_tools([weather], tool_choice="weather").bind(max_tokens=200, top_k=1, logit_bias={1: 100})
assert forced.invoke("hello").tool_calls[0]["name"] == "weather"
for precision in ("int8", "bf16"):
    with ChatQwen(model=MODEL, precision=precision, max_tokens=2) as other:
        other.invoke("x")
"""

PARTS = """
from langchain_qwen import ChatQwen, register_init_chat_model
from langchain_qwen.grounding import GroundedAnswerer
from langchain_qwen.history import HistoryTrimmer
from langchain_qwen.personas import builtin
from langchain_qwen.personas.tasks import summarize
from langchain_qwen.safety import InputGuard, SafetyParser
import langchain_qwen.middleware

register_init_chat_model()
model = ChatQwen(model=MODEL, temperature=0, max_tokens=8)
history = [(kind, "some words " * 30) for _ in range(20) for kind in ("human", "ai")] + [("human", "and?")]
assert (HistoryTrimmer(model) | model).invoke(history) is not None
assert SafetyParser("balanced").guard(model).invoke("hello") is not None
assert (builtin("concise") | model).invoke("hello") is not None
GroundedAnswerer(["The mill closed in 1950.", "The bridge opened in 1874."], model).invoke("When did the mill close?")
"""

NEEDS_TORCH = """
from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import choose_device, devices
from langchain_qwen.errors import InvalidParameterError, MissingDependencyError

def refused(error, word, make):
    try:
        make()
    except error as raised:
        assert word in str(raised), raised
    else:
        raise AssertionError("it was not refused")

refused(MissingDependencyError, "torch", lambda: ChatQwen(model=MODEL, precision="fp32").invoke("x"))
refused(MissingDependencyError, "torch", lambda: ChatQwen(model=MODEL, precision="fp16").invoke("x"))
refused(MissingDependencyError, "torch", lambda: ChatQwen(model=MODEL, device="cuda").invoke("x"))
refused(MissingDependencyError, "torch", lambda: ChatQwen(model=MODEL, quantization_config={"load_in_8bit": True}))
refused(InvalidParameterError, "gpu", lambda: ChatQwen(model=MODEL, device="gpu").invoke("x"))
devices._may_have_accelerator = lambda: True
assert choose_device("auto") == "cpu"
"""

CONVERT = """
from pathlib import Path
from langchain_qwen.checkpoints import open_folder
from langchain_qwen.checkpoints.gguf_convert import convert

target = Path(MODEL).with_name("converted-without-torch")
convert(Path(GGUF), target, lambda _: None)
assert open_folder(target).parameters
"""


def run(code: str, *arguments: str, stdin: str = "", **names: str) -> subprocess.CompletedProcess[str]:
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "LANGCHAIN_QWEN_CACHE": names.get("CACHE", "")}
    return subprocess.run(
        [sys.executable, "-c", given + code, *arguments],
        input=stdin, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("code", [CHAT_MODEL, PARTS, NEEDS_TORCH], ids=["chat model", "parts", "what needs torch"])
def test_the_library(tmp_path, code):
    folder = make_tiny_checkpoint(tmp_path / "m", window=8192)  # prompts are long in single bytes
    done = run(REFUSE + code, MODEL=str(folder), CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_pulled_file_is_converted(tiny_checkpoint, tmp_path):
    gguf = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf")
    done = run(REFUSE + CONVERT, MODEL=str(tmp_path / "m"), GGUF=str(gguf))
    assert done.returncode == 0, done.stderr


MAIN = "from langchain_qwen.cli import main\nmain()"


@pytest.mark.parametrize(
    ("arguments", "stdin", "shown"),
    [
        (["ask", "--max-tokens", "3", "-m"], "hello", ""),
        (["chat", "--max-tokens", "3", "--persona", "concise", "-m"], "hello\n/stats\n", "conversation: "),
        (["doctor", "-m"], "", "runs here"),
    ],
    ids=["ask", "chat", "doctor"],
)
def test_the_command_line(tiny_checkpoint, tmp_path, arguments, stdin, shown):
    done = run(REFUSE + MAIN, *arguments, str(tiny_checkpoint), stdin=stdin, CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_the_command_line_leaves_them_alone_where_they_are_installed(tiny_checkpoint, tmp_path, command):
    code = (
        "import sys\nfrom langchain_qwen.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = run(code, command, "-n", "3", "-m", str(tiny_checkpoint), stdin="hello\n", CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_module_of_the_cpu_path_mentions_them_at_its_top():
    """Only these may import them outside a function."""
    package = Path(__file__).parents[2] / "langchain_qwen"
    importing = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import torch", "from torch", "import transformers", "from transformers"))
    }
    assert importing == {"engine/runners/torch/load.py", "engine/runners/torch/runner.py"}
