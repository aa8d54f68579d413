from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from langchain_qwen.checkpoints import hub, pull, resolve
from langchain_qwen.errors import (
    CheckpointError,
    ConfigurationError,
    IncompleteCheckpointError,
    InvalidParameterError,
    ModelNotFoundError,
    UnsafeWeightsError,
    UnsupportedModelError,
)

COMMIT = "a" * 40
http = importlib.import_module(HTTPError.__module__)  # httpx or httpx2, as huggingface_hub is built


class FakeHub:
    """A hub with one repository, whose downloads land in the cache as huggingface_hub lays it out."""

    def __init__(self, cache: Path, repository: Path):
        self.cache, self.repository = cache, repository
        self.calls: list[str] = []
        self.patterns: list[str] = []
        self.error: Exception | None = None
        self.timeout: float | None = None

    def model_info(self, hub_id: str, *, revision: str | None = None, timeout: float | None = None) -> Any:
        self.calls.append("info")
        self.timeout = timeout
        if self.error is not None:
            raise self.error
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=f.name) for f in self.repository.iterdir()])

    def hf_hub_download(self, hub_id: str, file: str, **_: Any) -> str:
        self.calls.append(file)
        return str(self._store(hub_id, file))

    def snapshot_download(self, hub_id: str, *, allow_patterns: list[str], **_: Any) -> str:
        self.calls.append("snapshot")
        self.patterns = allow_patterns
        for file in self.repository.iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                stored = self._store(hub_id, file.name)
        return str(stored.parent)

    def _store(self, hub_id: str, file: str) -> Path:
        repository = self.cache / f"models--{hub_id.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(COMMIT)
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(self.repository / file, snapshot / file))


@pytest.fixture
def fake_hub(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    repository = Path(shutil.copytree(tiny_checkpoint, tmp_path / "repository"))
    (repository / "pytorch_model.bin").write_bytes(b"pickle")
    (repository / "modeling_evil.py").write_text("raise SystemExit")
    fake = FakeHub(tmp_path / "hub-cache", repository)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(fake.cache))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(fake.cache))
    monkeypatch.setattr(HfApi, "model_info", lambda _, *args, **kwargs: fake.model_info(*args, **kwargs))
    monkeypatch.setattr(hub, "hf_hub_download", fake.hf_hub_download)
    monkeypatch.setattr(hub, "snapshot_download", fake.snapshot_download)
    return fake


def response(status: int) -> Any:
    return http.Response(status, request=http.Request("GET", "https://hub.invalid"))


# -- folders and aliases ------------------------------------------------------------------------------------------


def test_a_folder(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(tiny_checkpoint)).path == tiny_checkpoint
    assert pull(str(tiny_checkpoint)) == tiny_checkpoint
    monkeypatch.setenv("HOME", str(tiny_checkpoint.parent))
    assert resolve(f"~/{tiny_checkpoint.name}").path == tiny_checkpoint
    monkeypatch.chdir(tiny_checkpoint.parent)
    assert resolve(f"./{tiny_checkpoint.name}").name == f"./{tiny_checkpoint.name}"
    assert resolve(tiny_checkpoint.name).context_window == 2048


def test_a_folder_goes_before_a_hub_id(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "Qwen" / "Qwen2.5-1.5B-Instruct")
    monkeypatch.chdir(tmp_path)
    assert resolve("Qwen/Qwen2.5-1.5B-Instruct").revision is None


@pytest.mark.parametrize("model", ["coder-1.5", "Coder-1.5B", "coder1.5b", "qwen2.5-coder-1.5b"])
def test_misspelt_aliases(model: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"Did you mean coder-1\.5b"):
        resolve(model)


def test_misspelt_folders(tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=rf"there is no folder .*\. Did you mean {tiny_checkpoint}\?"):
        resolve(str(tiny_checkpoint).replace("tiny-qwen2", "tiny-qwen-2"))


@pytest.mark.parametrize("model", ["./nothing", "../nothing/here", "~/nothing", "/nothing", "."])
def test_paths_are_not_looked_for_on_a_hub(fake_hub: FakeHub, model: str) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder|lacks config.json"):
        resolve(model)
    assert not fake_hub.calls


@pytest.mark.parametrize(
    "model",
    ["", "nothing", "a/b/c", "a b/c", "Qwen/--", "https://hub.invalid/Qwen/Qwen2.5", "~no-such-user/x", "a" * 5000],
)
def test_names_that_nothing_can_have(fake_hub: FakeHub, model: str) -> None:
    with pytest.raises(CheckpointError):
        resolve(model)
    assert not fake_hub.calls


def test_what_the_system_refuses_to_look_at(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be looked for: .*Permission denied"):
        resolve(str(tiny_checkpoint))
    with pytest.raises(CheckpointError, match=r"cannot be looked for: .*Permission denied"):
        pull("coder-0.5b", cache_dir="/root")


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("LANGCHAIN_QWEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", refuse)
    with pytest.raises(ConfigurationError, match="LANGCHAIN_QWEN_CACHE"):
        resolve("coder-0.5b", local_files_only=True)


def test_a_file(tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a file; model takes a GGUF file"):
        resolve(str(tiny_checkpoint / "model.safetensors"))


def test_revisions_are_for_hub_ids(tiny_checkpoint: Path) -> None:
    for model in ("coder-0.5b", str(tiny_checkpoint)):
        with pytest.raises(InvalidParameterError, match="goes with a hub id"):
            resolve(model, revision="main")


# -- hub ids ------------------------------------------------------------------------------------------------------


def test_a_hub_id_is_downloaded_once(fake_hub: FakeHub) -> None:
    checkpoint = resolve("Qwen/Tiny")
    assert checkpoint.name == "Qwen/Tiny"
    assert checkpoint.revision == COMMIT
    assert {file.suffix for file in checkpoint.path.iterdir()} == {".json", ".safetensors"}
    assert fake_hub.timeout is not None
    assert fake_hub.timeout <= 10
    calls = list(fake_hub.calls)
    assert resolve("Qwen/Tiny") == checkpoint
    assert resolve("Qwen/Tiny", revision=COMMIT, local_files_only=True) == checkpoint
    assert fake_hub.calls == calls


def test_pull_brings_a_hub_id_up_to_date(fake_hub: FakeHub) -> None:
    folder = pull("Qwen/Tiny")
    assert pull("Qwen/Tiny") == folder
    assert fake_hub.calls.count("snapshot") == 2
    fake_hub.error = http.ConnectError("no network")
    assert pull("Qwen/Tiny") == folder


def test_another_cache(fake_hub: FakeHub, tmp_path: Path) -> None:
    first = resolve("Qwen/Tiny")
    with pytest.raises(ModelNotFoundError, match="not on this machine"):
        resolve("Qwen/Tiny", cache_dir=tmp_path / "empty", local_files_only=True)
    fake_hub.cache.rename(tmp_path / "moved")
    moved = resolve("Qwen/Tiny", cache_dir=tmp_path / "moved", local_files_only=True)
    assert moved.path.name == first.path.name


def test_an_unfinished_download_is_continued(fake_hub: FakeHub) -> None:
    fake_hub.hf_hub_download("Qwen/Tiny", "config.json")
    with pytest.raises(IncompleteCheckpointError, match="langchain-qwen pull Qwen/Tiny"):
        resolve("Qwen/Tiny", local_files_only=True)
    assert resolve("Qwen/Tiny").parameter_bytes > 0


def test_without_downloads(fake_hub: FakeHub) -> None:
    with pytest.raises(ModelNotFoundError, match=r"downloads are off.*langchain-qwen pull coder-1\.5b"):
        resolve("Qwen/Tiny", local_files_only=True)
    assert not fake_hub.calls


@pytest.mark.parametrize(
    "error",
    [
        http.ConnectError("[Errno -2] Name or service not known"),
        http.ConnectTimeout("timed out"),
        http.ProxyError("403 Forbidden"),
        LocalEntryNotFoundError("Got: ConnectError"),
        huggingface_hub.errors.HfHubHTTPError("503 Service Unavailable", response=response(503)),
        ConnectionResetError("reset"),
    ],
)
def test_no_hub_in_reach(fake_hub: FakeHub, error: Exception) -> None:
    fake_hub.error = error
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("Qwen/Qwen2.5-1.5B-Instruct")
    text = str(caught.value)
    assert "no hub can be reached" in text
    assert "`langchain-qwen pull coder-1.5b`" in text
    assert 'model="coder-1.5b"' in text
    assert fake_hub.calls == ["info"]


def test_offline_mode_of_huggingface_hub(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real huggingface_hub, with HF_HUB_OFFLINE=1: the cache serves, and nothing else is tried."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    fake = FakeHub(tmp_path, tiny_checkpoint)
    fake.snapshot_download("Qwen/Tiny", allow_patterns=["*"])
    assert resolve("Qwen/Tiny", cache_dir=tmp_path).revision == COMMIT
    assert pull("Qwen/Tiny", cache_dir=tmp_path).name == COMMIT
    with pytest.raises(ModelNotFoundError, match=r"OfflineModeIsEnabled.*coder-1\.5b"):
        resolve("Qwen/Other", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RepositoryNotFoundError("404", response=response(404)), r"the hub has no model 'Qwen/Tiny'.*hf auth login"),
        (GatedRepoError("403", response=response(403)), "gated: ask for access"),
        (RevisionNotFoundError("404", response=response(404)), "has no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses(fake_hub: FakeHub, error: Exception, text: str) -> None:
    fake_hub.error = error
    with pytest.raises(ModelNotFoundError, match=text):
        resolve("Qwen/Tiny", revision="v9")


def test_a_full_cache_disk(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "snapshot_download", fill)
    with pytest.raises(CheckpointError, match=r"could not be stored in the cache.*No space left"):
        resolve("Qwen/Tiny")


def test_other_architectures_are_refused_before_the_weights_come(fake_hub: FakeHub) -> None:
    config = json.loads((fake_hub.repository / "config.json").read_text())
    (fake_hub.repository / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(UnsupportedModelError, match="'llama'"):
        resolve("Qwen/Tiny")
    assert "snapshot" not in fake_hub.calls


def test_pickles_are_refused_before_they_come(fake_hub: FakeHub) -> None:
    (fake_hub.repository / "model.safetensors").unlink()
    with pytest.raises(UnsafeWeightsError, match=r"pytorch_model\.bin"):
        resolve("Qwen/Tiny")
    assert fake_hub.calls == ["info"]
