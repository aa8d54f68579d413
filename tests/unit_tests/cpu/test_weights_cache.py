"""The packed weights in the cache: nothing damaged, planted or half written is ever computed with."""

from __future__ import annotations

import functools
import json
import os
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu import weights as weights_module
from langchain_qwen.engine.runners.cpu.weights import load_weights

pytestmark = pytest.mark.skipif(not library.available(), reason="the native library is not built")


def load(folder, cache, fingerprint="tiny"):
    config = json.loads((folder / "config.json").read_text())
    return load_weights(folder, config, precision="int4", fingerprint=fingerprint, cache_folder=cache, num_threads=2)


def packed_file(cache: Path) -> Path:
    (file,) = (cache / "packed").glob("*.safetensors")
    return file


def replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)
    file.chmod(0o600)


@pytest.fixture
def expected(tiny_checkpoint, tmp_path):
    return load(tiny_checkpoint, tmp_path).head.data.copy()


def test_the_files_are_private_and_read_only(tiny_checkpoint, tmp_path):
    load(tiny_checkpoint, tmp_path / "cache")
    file = packed_file(tmp_path / "cache")
    assert [place.stat().st_mode & 0o777 for place in (file, file.parent, file.parent.parent)] == [0o400, 0o700, 0o700]


def test_a_cache_that_cannot_even_be_looked_at(tiny_checkpoint, tmp_path, expected, caplog):
    name = "x" * 300  # longer than names can be, which is refused to root too
    assert (load(tiny_checkpoint, tmp_path, name).head.data == expected).all()
    assert "could not be kept" in caplog.text


def test_no_altered_byte_is_computed_with(tiny_checkpoint, tmp_path, monkeypatch):
    kept = {}
    read = weights_module._read_cache
    monkeypatch.setattr(weights_module, "_read_cache", lambda *args: kept.update(args=args) or read(*args))
    load(tiny_checkpoint, tmp_path)
    file, (_, forms, threads) = packed_file(tmp_path), kept["args"]
    whole = file.read_bytes()
    original = {name: part.data.copy() for name, part in read(file, forms, threads).items()}

    @settings(max_examples=150, deadline=None)
    @given(position=st.integers(0, len(whole) - 1), byte=st.integers(1, 255), cut=st.integers(0, len(whole)))
    def alter(position, byte, cut):
        content = bytearray(whole)
        content[position] ^= byte
        for altered in (bytes(content), whole[:cut], whole[cut:], whole + b"x"):
            if altered == whole:
                continue
            replace(file, altered)
            found = read(file, forms, threads)
            # A space of the header that became a tab changes nothing.
            assert found is None or all(np.array_equal(part.data, original[name]) for name, part in found.items())

    alter()

    @settings(max_examples=100, deadline=None)
    @given(content=st.binary(max_size=300), length=st.none() | st.integers(0, 400))
    def invent(content, length):
        replace(file, content if length is None else struct.pack("<Q", length) + content)
        assert read(file, forms, threads) is None

    invent()


@given(st.binary(max_size=300), st.integers(0, 7))
def test_checksums_are_those_of_the_formula(content, start):
    def mix(total, word):
        total ^= word
        return ((total << 31 | total >> 33) * 0x9E3779B97F4A7C15) % 2**64

    data = np.frombuffer(bytes(start) + content, np.uint8)[start:]
    words = [int.from_bytes(content[at : at + 8], sys.byteorder) for at in range(0, len(content) // 8 * 8, 8)]
    in_lanes = len(words) // 8 * 8
    lanes = [functools.reduce(mix, words[lane:in_lanes:8], 0) for lane in range(8)]
    rest = [int.from_bytes(content[at : at + 8], "little") for at in range(in_lanes * 8, len(content), 8)]
    assert weights_module.checksum(data) == functools.reduce(mix, [*lanes, *rest], len(content))


def test_words_that_have_changed_places_are_found(tiny_checkpoint, tmp_path, expected, caplog):
    file = packed_file(tmp_path)
    content = bytearray(file.read_bytes())
    content[-800:-792], content[-400:-392] = content[-400:-392], content[-800:-792]
    assert content != file.read_bytes()
    replace(file, content)
    np.testing.assert_array_equal(load(tiny_checkpoint, tmp_path).head.data, expected)
    assert "damaged: head" in caplog.text


def test_a_file_under_the_name_of_another_is_made_anew(tiny_checkpoint, tmp_path, expected, caplog):
    file = packed_file(tmp_path)
    file.rename(file.with_name(file.name.replace("tiny", "other")))
    np.testing.assert_array_equal(load(tiny_checkpoint, tmp_path, "other").head.data, expected)
    assert "holds other weights" in caplog.text


@pytest.mark.parametrize("place", ["", "packed"])
def test_weights_that_others_could_have_planted_are_not_used(tiny_checkpoint, tmp_path, place, expected, caplog):
    file = packed_file(tmp_path)
    before = file.stat()
    (tmp_path / place).chmod(0o777)
    np.testing.assert_array_equal(load(tiny_checkpoint, tmp_path).head.data, expected)
    assert "chmod go-w" in caplog.text
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("kind", ["pipe", "link", "writable", "folder"])
def test_what_is_no_file_of_ours_is_replaced(tiny_checkpoint, tmp_path, kind, expected, caplog):
    file = packed_file(tmp_path)
    content = file.read_bytes()
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        (tmp_path / "target").write_bytes(content)
        file.symlink_to(tmp_path / "target")
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(content)
        file.chmod(0o666)
    np.testing.assert_array_equal(load(tiny_checkpoint, tmp_path).head.data, expected)
    assert "cannot be used" in caplog.text
    assert kind == "folder" or (file.lstat().st_mode & 0o777 == 0o400 and not file.is_symlink())


def test_a_folder_that_is_a_link_is_not_followed(tiny_checkpoint, tmp_path, expected, caplog):
    (tmp_path / "packed").rename(tmp_path / "elsewhere")
    (tmp_path / "packed").symlink_to(tmp_path / "elsewhere")
    np.testing.assert_array_equal(load(tiny_checkpoint, tmp_path).head.data, expected)
    assert "is a link" in caplog.text


def test_old_layouts_and_what_was_not_used_for_longest_go(tiny_checkpoint, tmp_path, monkeypatch):
    load(tiny_checkpoint, tmp_path, "a")
    size = packed_file(tmp_path).stat().st_size
    (tmp_path / "packed" / "a-int4-g64-v1.safetensors").write_bytes(b"old")
    (tmp_path / "packed" / "a-int4-g64-v99.safetensors").write_bytes(b"of a later version")
    monkeypatch.setattr(weights_module, "KEPT_BYTES", 2 * size + 100)
    load(tiny_checkpoint, tmp_path, "b")
    assert not (tmp_path / "packed" / "a-int4-g64-v1.safetensors").exists()
    assert (tmp_path / "packed" / "a-int4-g64-v99.safetensors").exists()
    for file in (tmp_path / "packed").glob("b-*"):  # clocks of files stand still for milliseconds
        os.utime(file, (time.time() - 1,) * 2)
    held = load(tiny_checkpoint, tmp_path, "a")  # used, so "b" is the one to go
    content = held.head.data.copy()
    load(tiny_checkpoint, tmp_path, "c")
    left = sorted(file.name.split("-")[0] for file in (tmp_path / "packed").glob("*-int4-v*"))
    assert left == ["a", "c"]
    monkeypatch.setattr(weights_module, "KEPT_BYTES", 1)
    load(tiny_checkpoint, tmp_path, "d")
    assert packed_file(tmp_path).name.startswith("d-")
    np.testing.assert_array_equal(held.head.data, content)  # deleted, and still mapped


def test_a_kill_while_they_are_written_costs_only_the_time(tiny_checkpoint, tmp_path):
    code = """
    import json, os, signal, sys
    from pathlib import Path
    from langchain_qwen.checkpoints import private_files
    from langchain_qwen.engine.runners.cpu.weights import load_weights
    private_files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    folder, cache = map(Path, sys.argv[1:])
    load_weights(folder, json.loads((folder / "config.json").read_text()), precision="int4", fingerprint="tiny",
                 cache_folder=cache, num_threads=2)
    """
    for _ in range(2):
        command = [sys.executable, "-c", textwrap.dedent(code), str(tiny_checkpoint), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == -9, done.stderr
        assert len(list((tmp_path / "packed").iterdir())) == 1
    load(tiny_checkpoint, tmp_path)
    assert list((tmp_path / "packed").iterdir()) == [packed_file(tmp_path)]


def test_two_processes_at_once_both_start(tiny_checkpoint, tmp_path):
    code = """
    import hashlib, json, sys
    from pathlib import Path
    from langchain_qwen.engine.runners.cpu.weights import load_weights
    folder, cache = map(Path, sys.argv[1:])
    config = json.loads((folder / "config.json").read_text())
    sys.stdin.read()  # until all are ready
    weights = load_weights(folder, config, precision="int4", fingerprint="tiny", cache_folder=cache, num_threads=2)
    print(hashlib.sha256(weights.head.data).hexdigest())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tiny_checkpoint), str(tmp_path)]
    starts = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in starts:
        process.stdin.close()
        process.stdin = None
    results = [process.communicate(timeout=60) for process in starts]
    assert len({out.splitlines()[-1] for out, _ in results}) == 1
    assert all("could not be kept" not in error and "cannot be used" not in error for _, error in results)
    assert list((tmp_path / "packed").iterdir()) == [packed_file(tmp_path)]
