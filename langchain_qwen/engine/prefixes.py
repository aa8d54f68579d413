"""Beginnings of prompts whose keys and values are kept on the disk, so that another process need not compute them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langchain_qwen._version import __version__
from langchain_qwen.checkpoints.private_files import forget_unused, private_folder
from langchain_qwen.checkpoints.safetensors_file import checksum, read_copy, write_bytes
from langchain_qwen.engine.blocks import BLOCK_SIZE, ROOT_HASH, BlockPool, chain_hash
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.protocol import Request
from langchain_qwen.engine.runners.protocol import Runner
from langchain_qwen.errors import CheckpointError, UnsafeCacheError

KEPT_BYTES = 1 << 30  # some forty beginnings of 1,000 tokens


def warm(engine: LocalEngine, tokens: Sequence[int], folder: Path, fingerprint: str) -> int:
    """Have the whole blocks that `tokens` begin with in the engine's prefix cache, from the disk where they are there.

    Args:
        engine: Where they are wanted.
        tokens: The beginning of prompts to come.
        folder: Where files are kept.
        fingerprint: Of the weights: keys and values belong to them.

    Returns:
        How many tokens the engine holds now. Where they cannot be written to the disk, a warning says so.
    """
    tokens = list(tokens[: len(tokens) // BLOCK_SIZE * BLOCK_SIZE])
    if not tokens:
        return 0
    # Other code may round otherwise, and answers must not depend on what was kept.
    identity = f"{fingerprint} {__version__} {engine.info.precision} {engine.info.device} {tokens}"
    file = folder / f"{blake2b(identity.encode(), digest_size=16).hexdigest()}.safetensors"
    kept = _read(file)
    if kept is not None and engine.between_steps(lambda pool, runner: _restore(pool, runner, tokens, kept)):
        return len(tokens)
    # With one more token, since the last one of a prompt is never taken from the cache.
    for _ in engine.stream(Request((*tokens, tokens[-1]), max_tokens=1, stop_ids=frozenset())):
        pass
    contents = engine.between_steps(lambda pool, runner: _contents(pool, runner, tokens))
    if contents is None:  # other requests have needed the memory meanwhile
        return 0
    try:
        _write(file, contents)
    except (OSError, UnsafeCacheError) as error:
        warnings.warn(f"{file} could not be kept ({error}); later processes compute it again", stacklevel=3)
    return len(tokens)


def _contents(pool: BlockPool, runner: Runner, tokens: list[int]) -> NDArray[np.uint8] | None:
    blocks, _ = pool.match([*tokens, 0])
    try:
        return runner.read(blocks) if len(blocks) * BLOCK_SIZE == len(tokens) else None
    finally:
        pool.release(blocks)


def _restore(pool: BlockPool, runner: Runner, tokens: list[int], contents: NDArray[np.uint8]) -> bool:
    """Put kept contents into free blocks; False where there are too few, or they do not fit."""
    count = len(tokens) // BLOCK_SIZE
    kinds, layers, _, block_bytes = runner.read([0]).shape
    if contents.shape != (kinds, layers, count, block_bytes):
        return False
    held, hashes = pool.match([*tokens, 0])
    new = None
    try:
        new = pool.allocate(count - len(held))
        if new:
            runner.write(new, contents[:, :, len(held) :])
        for index, block in enumerate(new or (), start=len(held)):
            parent = hashes[-1] if hashes else ROOT_HASH
            hashes.append(chain_hash(parent, tokens[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]))
            pool.publish(block, hashes[-1])
    finally:
        pool.release([*held, *(new or ())])
    return new is not None


def _read(file: Path) -> NDArray[np.uint8] | None:
    """The kept contents; None where there are none, or the file is not to be trusted and has to be written again.

    They are copied: a file that was cut while it is mapped would end the process, and these are small.
    """
    try:
        private_folder(file.parent)
        contents, metadata = read_copy(file, "keys_and_values")
        is_whole = metadata["of"] == file.name and metadata["checksum"] == str(checksum(contents))
    except (OSError, CheckpointError, KeyError):
        return None
    return contents if is_whole else None


def _write(file: Path, contents: NDArray[np.uint8]) -> None:
    private_folder(file.parent)
    write_bytes(file, {"keys_and_values": contents}, {"of": file.name, "checksum": str(checksum(contents))})
    forget_unused(file.parent, KEPT_BYTES)
