"""Which weights a folder holds: a name for the keys of caches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from langchain_qwen.checkpoints import gguf_file, safetensors_file
from langchain_qwen.regular_files import open_regular

Header: TypeAlias = gguf_file.Header | safetensors_file.Header

SAMPLE = 4096  # bytes: a page, which is read whole anyway
STRIDE = 4 << 20  # bytes between the beginnings of two samples, at most


def fingerprint(config: Mapping[str, Any], files: Iterable[Path]) -> str:
    """Name the weights of a checkpoint by its config.json, and of each file the name, time, header and samples.

    Samples are the first and last page of each tensor, its middle one, and one every 4 MiB: some 5 MB of a file of
    3 GB, read and hashed in a few milliseconds. Whatever was trained or rounded differs in all of them. The time counts
    too, for what is changed in a few places only; where images set it to a constant, a change that keeps every size and
    lies between the samples, such as single rows of an embedding, is not seen. Only a hash of everything would see
    it, and that takes seconds at each start: keeping it by path, time and inode fails just where times are constants.

    The place does not count: a copy that keeps the times shares what was made of the original.

    Raises:
        IncompleteCheckpointError: As `safetensors_file.inspect`.
        OSError: A file cannot be read.
    """
    digest = blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=16)
    for file in files:
        with open_regular(file) as stream:
            status = os.fstat(stream.fileno())
            header: Header = _reader(file).read_header(file, stream)
            stream.seek(0)
            digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns} {header.start}\n".encode())
            digest.update(stream.read(header.start))
            for begin in _samples(header):
                stream.seek(begin)
                digest.update(stream.read(min(SAMPLE, header.size - begin)))
    return digest.hexdigest()


def inspect(file: Path) -> Header:
    """The header of a file of weights, checked; raises as `inspect` of `safetensors_file` and `gguf_file`."""
    header: Header = _reader(file).inspect(file)
    return header


def _reader(file: Path) -> ModuleType:
    return gguf_file if file.suffix == ".gguf" else safetensors_file


def _samples(header: Header) -> list[int]:
    begins = set(range(header.start, header.size, STRIDE))
    for tensor in header.tensors.values():
        last = max(tensor.begin, tensor.end - SAMPLE)
        begins |= {tensor.begin, (tensor.begin + last) // 2, last}
    return sorted(begins)
