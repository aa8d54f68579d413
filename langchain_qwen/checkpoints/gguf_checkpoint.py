"""A GGUF file as a checkpoint: checked like a folder, before any weights load.

Its small files (config, tokenizer, chat template, sampling defaults) are written into the cache once, under a name that
stands for the file's whole header, and are then read like those of any folder. The weights stay where they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from langchain_qwen.checkpoints.folder import Checkpoint, check_config, tensor_names
from langchain_qwen.checkpoints.gguf_blocks import READERS
from langchain_qwen.checkpoints.gguf_file import GgufFile, Tensor
from langchain_qwen.checkpoints.gguf_metadata import ModelFiles, read_files, read_tokenizer, transformers_name
from langchain_qwen.checkpoints.limits import check_generation
from langchain_qwen.checkpoints.private_files import private_folder
from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, UnsupportedModelError
from langchain_qwen.regular_files import open_regular

SUFFIX = ".gguf"
SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
MOST_PARTS = 1_000
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Raise it whenever the small files are written in another way: they are then made anew.
WRITER_VERSION = 1


def open_gguf(path: Path, name: str, cache_folder: Path, *, revision: str | None = None) -> Checkpoint:
    """Check that a GGUF file holds a usable model, without loading weights.

    Args:
        path: The file, or any part of one that is split.
        name: What it was asked for by.
        cache_folder: Where its small files are kept.
        revision: Its commit, where it comes from a hub.

    Raises:
        UnsupportedModelError: It is no Qwen2 model, or holds weights in types that are not read.
        IncompleteCheckpointError: Something is missing or damaged.
        UnsafeCacheError: Other users can write to the cache folder.
        CheckpointError: A file cannot be read, or the cache cannot be written.
    """
    try:
        files = split_files(path)
        opened = [GgufFile(file) for file in files]
        model = read_model(opened, name)
        place = _small_files(opened[0], model, cache_folder)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be opened: {error}. Its small files are kept in {cache_folder}; the environment variable "
            "LANGCHAIN_QWEN_CACHE chooses another place"
        ) from error
    return Checkpoint(name, place, revision, model.config, model.generation, gguf=files)


def split_files(path: Path) -> tuple[Path, ...]:
    """All parts of a model, in their order; a file that is not split is its only part.

    Raises:
        IncompleteCheckpointError: Parts are missing.
    """
    match = SPLIT.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match[3])
    if not 1 <= int(match[2]) <= count <= MOST_PARTS:
        raise IncompleteCheckpointError(f"{path} is no part of a file that is split into {count}")
    files = tuple(path.with_name(f"{match[1]}-{number:05}-of-{count:05}{SUFFIX}") for number in range(1, count + 1))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise IncompleteCheckpointError(f"{path.parent} lacks {', '.join(missing[:3])}; copy or download all {count}")
    return files


def tensors_of(files: Sequence[GgufFile]) -> dict[str, tuple[GgufFile, str]]:
    """Where each tensor is, by its name in transformers: the file, and its name there.

    Raises:
        UnsupportedModelError: A tensor that Qwen2 models do not have, or in a type that is not read.
        IncompleteCheckpointError: One is there twice.
    """
    found: dict[str, tuple[GgufFile, str]] = {}
    for file in files:
        for name, tensor in file.header.tensors.items():
            known = transformers_name(name)
            if known is None:
                raise UnsupportedModelError(
                    f"{file.name} holds the tensor {name[:80]!r}, which Qwen2 models do not have; its answers would "
                    "not be the model's"
                )
            if tensor.kind.name not in READERS:
                raise UnsupportedModelError(
                    f"{file.name} holds {name} in {tensor.kind.name}, and {', '.join(READERS)} are read; take a file "
                    "in Q4_K_M, Q5_K_M, Q6_K or Q8_0"
                )
            if known in found:
                raise IncompleteCheckpointError(f"{file.name} holds {name}, which another of its parts holds too")
            found[known] = file, name
    return found


def read_model(files: Sequence[GgufFile], name: str) -> ModelFiles:
    """What the files say of their model, compared with one another.

    Args:
        files: All parts.
        name: What it was asked for by, for errors.

    Raises:
        UnsupportedModelError, IncompleteCheckpointError: As `open_gguf`.
    """
    for number, file in enumerate(files):
        _check_part(file, number, len(files))
    # The kind of model first: of another one nothing else is as expected.
    architecture = files[0].header.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture == "qwen2":
        tensors = tensors_of(files)
        if EMBEDDING not in tensors or len(_tensor(tensors, EMBEDDING).shape) != 2:
            raise IncompleteCheckpointError(f"{files[0].name} lacks its embedding; copy or download it again")
        rows = _tensor(tensors, EMBEDDING).shape[0]
        model = read_files(files[0], rows, tied=HEAD not in tensors)
        check_config(model.config, name)
        check_generation(model.generation, rows, name)
        absent = [tensor for tensor in tensor_names(model.config) if tensor not in tensors]
        if absent:
            raise IncompleteCheckpointError(
                f"{files[0].name} lacks {len(absent)} tensors ({absent[0]}, ...); copy or download it again"
            )
        return model
    return read_files(files[0], 1, tied=True)  # raises


def _tensor(tensors: Mapping[str, tuple[GgufFile, str]], name: str) -> Tensor:
    file, own = tensors[name]
    return file.header.tensors[own]


def _check_part(file: GgufFile, number: int, count: int) -> None:
    """Raise unless a file is the part that its name says."""
    stated = file.header.metadata.get("split.no", 0), file.header.metadata.get("split.count", 1) or 1
    if stated != (number, count):
        raise IncompleteCheckpointError(
            f"{file.name} says that it is part {stated[0]} of {stated[1]}, and it should be {number} of {count}; parts "
            "of a split file keep their names, such as model-00001-of-00002.gguf"
        )


def _small_files(file: GgufFile, model: ModelFiles, cache_folder: Path) -> Path:
    """The folder with the model's small files, made if it is not there: whole or not at all."""
    place = cache_folder / "gguf" / _key(file)
    private_folder(place.parent)
    if place.is_dir():
        return place
    work = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=place.parent))
    try:
        write_small_files(work, file, model)
        with suppress(OSError):  # another process was faster
            os.replace(work, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not place.is_dir():
        raise CheckpointError(f"{place} cannot be made; choose another place with LANGCHAIN_QWEN_CACHE")
    return place


def _key(file: GgufFile) -> str:
    """Names all that a header says."""
    digest = blake2b(f"{WRITER_VERSION}\n".encode(), digest_size=16)
    with open_regular(file.path) as stream:
        digest.update(stream.read(file.header.start))
    return digest.hexdigest()


def write_small_files(folder: Path, file: GgufFile, model: ModelFiles) -> None:
    """Write what a checkpoint folder holds beside the weights."""
    read_tokenizer(file).save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", model.config)
    _write_json(folder / "generation_config.json", model.generation)
    _write_json(folder / "tokenizer_config.json", model.tokenizer_config)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
