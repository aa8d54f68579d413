from __future__ import annotations

import pytest
from huggingface_hub import constants


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def fill(folder, file="model.safetensors", size=200_000_000):
    folder.mkdir(parents=True)
    with (folder / file).open("wb") as stream:
        stream.truncate(size)


def test_an_empty_cache(run, cache):
    result = run("list")
    assert result.exit_code == 0
    assert "Nothing is here yet" in result.stderr
    assert "there are: none" in run("remove", "coder-0.5b").stderr


def test_what_is_here_is_listed_and_can_be_removed(run, cache):
    fill(cache / "own" / "checkpoints" / "coder-0.5b")
    fill(cache / "own" / "checkpoints" / ".coder-1.5b.partial", "part1.whl")
    fill(cache / "own" / "packed", "abc-int4-g64-v2.safetensors")
    fill(cache / "hub" / "models--Qwen--Qwen2.5-0.5B-Instruct" / "blobs", "blob")
    rows = {line.split()[0]: line for line in run("list").stdout.splitlines()[1:] if not line.startswith(" ")}
    assert rows.keys() == {"coder-0.5b", "coder-1.5b.partial", "Qwen/Qwen2.5-0.5B-Instruct", "packed"}
    assert all("0.2 GB" in row for row in rows.values())
    assert run("remove", "coder-0.5b", input="n\n").exit_code == 0
    assert (cache / "own" / "checkpoints" / "coder-0.5b").exists()
    assert "0.2 GB are free again" in run("remove", "coder-0.5b", input="y\n").stderr
    assert run("remove", "packed", "--yes").exit_code == 0
    assert [path.name for path in (cache / "own").rglob("*") if path.is_file()] == ["part1.whl"]


def test_a_name_that_is_not_here(run, cache):
    fill(cache / "own" / "checkpoints" / "coder-0.5b")
    result = run("remove", "../../etc", "--yes")
    assert result.exit_code == 1
    assert "there are: coder-0.5b" in result.stderr


def test_a_model_of_the_hub_goes_with_what_belongs_to_it(run, cache, monkeypatch):
    repo = cache / "hub" / "models--Qwen--Tiny"
    (repo / "refs").mkdir(parents=True)
    commit = "a" * 40
    (repo / "refs" / "main").write_text(commit)
    fill(repo / "blobs", "0123", 1000)
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "config.json").symlink_to(repo / "blobs" / "0123")
    assert run("remove", "Qwen/Tiny", "--yes").exit_code == 0
    assert not repo.exists()
