"""From the name of a model to its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from langchain_qwen.checkpoints.aliases import RELEASES, alias_folder, cache_root
from langchain_qwen.checkpoints.folder import Checkpoint, open_folder
from langchain_qwen.checkpoints.gguf_checkpoint import SPLIT, SUFFIX, open_gguf
from langchain_qwen.checkpoints.pulling import open_alias, pull_alias
from langchain_qwen.errors import (
    CheckpointError,
    IncompleteCheckpointError,
    InvalidParameterError,
    ModelNotFoundError,
)
from langchain_qwen.regular_files import expanded

# Such as qwen2.5:1.5b, qwen2.5-coder:0.5b-instruct-q4_K_M.
_OLLAMA = re.compile(r"qwen2\.5(?P<coder>-coder)?:(?P<size>\d+(?:\.\d+)?)b(?:-instruct.*)?")
_EXAMPLE = "Qwen2.5-1.5B-Instruct"


def resolve(
    model: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    weights: bool = True,
) -> Checkpoint:
    """Find the checkpoint that `model` names, downloading it if it is not on this machine, and check it.

    No weights are loaded, and the network is asked only for what is not here.

    Args:
        model: An alias (`coder-1.5b`, `coder-0.5b`), a local folder or GGUF file, or a hub id such as
            `Qwen/Qwen2.5-1.5B-Instruct`; of a repository of GGUF files, with the one that is meant:
            `Qwen/Qwen2.5-1.5B-Instruct-GGUF:q4_k_m`.
        revision: Branch, tag or commit of a hub id.
        cache_dir: Where downloads are kept; None is the cache of huggingface_hub, for aliases that of this package.
        local_files_only: Never download.
        weights: Whether it has to have weights. Without them it says what a prompt is, for a model elsewhere.

    Raises:
        ModelNotFoundError: There is no such model here or in reach.
        CheckpointError: It cannot be used; the subclass and the text say why.
    """
    with _readable(model):
        return _find(model, revision, cache_dir, download=not local_files_only, refresh=False, weights=weights)


def pull(model: str, *, revision: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Bring a model onto this machine, for use without a network, and return its folder or GGUF file.

    A hub id is brought up to date where a hub is in reach. An alias that is there already returns at once.

    Args:
        model: As for `resolve`.
        revision: As for `resolve`.
        cache_dir: As for `resolve`.

    Raises:
        ModelNotFoundError: There is no such model here or in reach.
        CheckpointError: It cannot be used; the subclass and the text say why.
    """
    with _readable(model):
        return _find(model, revision, cache_dir, download=True, refresh=True, weights=True).place


@contextmanager
def _readable(model: str) -> Iterator[None]:
    """What the system refuses before a file is opened: folders of other users, names that are too long."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{model[:200]} cannot be looked for: {str(error)[:300]}") from error


def _find(
    model: str, revision: str | None, cache_dir: str | Path | None, *, download: bool, refresh: bool, weights: bool
) -> Checkpoint:
    release, path = RELEASES.get(model), expanded(model)
    is_file = path.suffix == SUFFIX and path.is_file()
    if revision is not None and (release is not None or path.is_dir() or is_file):
        raise InvalidParameterError(f"revision={revision!r} goes with a hub id, and {model!r} is none; leave it out")
    if release is not None:
        folder = alias_folder(model, cache_dir)
        if download:
            return pull_alias(release, folder)  # weights too: they come in one file
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"{model} ({release.title}) is not on this machine, and downloads are off; "
                f"run `langchain-qwen pull {model}`"
            )
        return open_alias(release, folder, weights=weights)
    if is_file:
        return open_gguf(path.absolute(), model, cache_root(cache_dir))
    if path.is_dir():
        path = path.absolute()  # the same one when the process changes its working directory
        file = None if (path / "config.json").exists() else _only_gguf(path)
        if file is not None:
            return open_gguf(file, model, cache_root(cache_dir))
        return open_folder(path, model, weights=weights)
    hub_id, colon, wanted = model.partition(":")
    if colon and hub_id.count("/") == 1 and not path.is_absolute():
        _check_hub_id(hub_id, Path(hub_id))
        return _find_gguf_on_hub(hub_id, wanted, revision, cache_dir, download=download, refresh=refresh)
    _check_hub_id(model, path)
    return _find_on_hub(model, revision, cache_dir, download=download, refresh=refresh, weights=weights)


def _only_gguf(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds nothing else to load; None where there is none.

    Raises:
        ModelNotFoundError: There are several.
    """
    found = sorted(file for file in folder.glob(f"*{SUFFIX}") if file.is_file())
    models = {match[1] if (match := SPLIT.fullmatch(file.name)) else file.name for file in found}
    if len(models) > 1:
        raise ModelNotFoundError(
            f"{folder} holds several GGUF files; name one of them: {', '.join(file.name for file in found[:8])}"
        )
    return found[0] if found else None


def _find_gguf_on_hub(
    hub_id: str, wanted: str, revision: str | None, cache_dir: str | Path | None, *, download: bool, refresh: bool
) -> Checkpoint:
    from langchain_qwen.checkpoints import hub

    name = f"{hub_id}:{wanted}"
    file = None if refresh else hub.cached_gguf(hub_id, wanted, revision, cache_dir)
    if file is None and download:
        try:
            file = hub.download_gguf(hub_id, wanted, revision, cache_dir)
        except ModelNotFoundError:
            file = hub.cached_gguf(hub_id, wanted, revision, cache_dir)  # no hub in reach: what is here serves
            if file is None:
                raise
    if file is None:
        raise ModelNotFoundError(
            f"{name} is not on this machine, and downloads are off; run `langchain-qwen pull {name}`"
        )
    return open_gguf(file, name, cache_root(cache_dir), revision=hub.revision_of(file))


def _find_on_hub(
    hub_id: str, revision: str | None, cache_dir: str | Path | None, *, download: bool, refresh: bool, weights: bool
) -> Checkpoint:
    from langchain_qwen.checkpoints import hub  # huggingface_hub takes a while to import

    here, incomplete = None, None
    cached = hub.cached_snapshot(hub_id, revision, cache_dir)
    if cached is not None:
        try:
            here = open_folder(cached, hub_id, revision=cached.name, weights=weights)
        except IncompleteCheckpointError as error:
            incomplete = error
    if here is not None and not refresh:
        return here
    if not download:
        raise incomplete or ModelNotFoundError(
            f"{hub_id} is not on this machine, and downloads are off; run `langchain-qwen pull {hub_id}`. "
            f"{hub.OFFLINE_ADVICE}{_near(hub_id)}"
        )
    try:
        path = hub.download(hub_id, revision, cache_dir, weights=weights)
    except ModelNotFoundError:
        if here is not None:  # no hub in reach: what is here serves
            return here
        raise
    return open_folder(path, hub_id, revision=path.name, weights=weights)


def _check_hub_id(model: str, folder: Path) -> None:
    """Raise for a name that cannot be a hub id, saying what it may have been meant as."""
    if folder.is_file():
        raise ModelNotFoundError(
            f"{model} is a file; model takes a GGUF file (*{SUFFIX}), or the folder that holds config.json and the "
            "weights"
        )
    if model.startswith((".", "~", "/", "\\")) or folder.is_absolute():
        raise ModelNotFoundError(f"there is no folder {model}{_near(model)}")
    if ollama := _OLLAMA.fullmatch(model.lower()):
        coder, size = ollama["coder"], ollama["size"]
        alias = f"coder-{size}b"
        hub_id = f"Qwen/Qwen2.5-{'Coder-' if coder else ''}{size}B-Instruct"
        here = f'"{alias}" (the same weights) or "{hub_id}"' if coder and alias in RELEASES else f'"{hub_id}"'
        raise ModelNotFoundError(f"{model!r} is what Ollama calls it; write model={here}")
    if model.count("/") != 1:
        raise ModelNotFoundError(
            f"{model!r} is neither an alias ({', '.join(RELEASES)}) nor a folder, and a hub id has the form "
            f"organisation/name, such as Qwen/{model if model.lower().startswith('qwen') else _EXAMPLE}{_near(model)}"
        )
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError as error:
        raise ModelNotFoundError(f"{model!r} is neither a folder nor a hub id: {error}{_near(model)}") from error


def _near(model: str) -> str:
    """A sentence naming aliases and folders spelt nearly like `model`, or nothing."""
    path = expanded(model)
    folders = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(model.lower(), RELEASES, n=2)
    near += [str(path.parent / name) for name in get_close_matches(path.name, folders, n=2, cutoff=0.7)]
    return f". Did you mean {' or '.join(near)}?" if near else ""
