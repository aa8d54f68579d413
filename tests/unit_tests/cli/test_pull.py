from __future__ import annotations

from langchain_qwen import checkpoints
from langchain_qwen.checkpoints import RELEASES


def test_without_a_model_the_aliases_are_listed(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path))
    checkpoints.alias_folder("coder-0.5b").mkdir(parents=True)
    result = run("pull")
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines()[1:]}
    assert rows.keys() == RELEASES.keys()
    assert rows["coder-0.5b"][1:] == ["Qwen2.5-Coder-0.5B-Instruct", "0.5", "GB", "1.0", "GB", "yes"]
    assert rows["coder-1.5b"][-1] == "no"


def test_the_folder_goes_to_stdout(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(checkpoints, "pull", lambda model, *, revision: asked.append((model, revision)) or tmp_path)
    result = run("pull", "Qwen/Qwen2.5-0.5B-Instruct", "--revision", "main")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}\n")
    assert asked == [("Qwen/Qwen2.5-0.5B-Instruct", "main")]


def test_a_model_that_is_here(run, tiny_checkpoint):
    assert run("pull", tiny_checkpoint).stdout == f"{tiny_checkpoint}\n"


def test_a_model_that_does_not_exist(run):
    result = run("pull", "coder-1.5")
    assert result.exit_code == 1
    assert "coder-1.5b" in result.stderr
