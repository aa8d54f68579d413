from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

from langchain_qwen import __version__
from langchain_qwen.cli import app
from langchain_qwen.cli.doctor.facts import EXTRAS
from langchain_qwen.errors import InvalidParameterError


def test_help_needs_no_torch():
    code = (
        "import sys; from langchain_qwen.cli import main; sys.argv = ['langchain-qwen', '--help']\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "doctor" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_version(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"langchain-qwen {__version__}\n")


def test_default_model_is_that_of_chat_qwen():
    from langchain_qwen.base import DEFAULT_MODEL

    assert app.DEFAULT_MODEL == DEFAULT_MODEL


def test_extras_are_those_of_the_package():
    required = [line for line in metadata.requires("langchain-qwen") or () if "extra ==" in line]
    for extra, packages in EXTRAS.items():
        assert {line.split(">")[0].split("<")[0] for line in required if f"'{extra}'" in line} == set(packages)


@pytest.mark.parametrize("option", [(), ("-v",)])
def test_an_error_is_told_without_a_traceback_unless_asked_for(run, use, option):
    use([InvalidParameterError("temperature=-1: must not be negative. " + "x" * 100)])
    result = run(*option, "ask", "hi")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "must not be negative. " + "x" * 100 in result.stderr  # as it is, not wrapped
    assert ("Traceback" in result.stderr) == bool(option)


def test_options_reach_the_model(run, use):
    model = use("yes")
    run("ask", "hi", *["-m", "M", "-p", "int8", "--device", "cpu", "-t", "0.5", "-n", "9", "--seed", "3"])
    assert model.metadata["options"] == app.ModelOptions("M", "int8", "cpu", 0.5, 9, 3)


def test_a_model_that_does_not_exist(run, tmp_path):
    result = run("ask", "hi", "--model", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "there is no folder" in result.stderr
