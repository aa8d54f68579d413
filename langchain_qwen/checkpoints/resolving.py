"""From the name of a model to its folder."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from langchain_qwen.checkpoints.aliases import RELEASES, alias_folder
from langchain_qwen.checkpoints.folder import Checkpoint, open_folder
from langchain_qwen.checkpoints.pulling import pull_alias
from langchain_qwen.errors import IncompleteCheckpointError, InvalidParameterError, ModelNotFoundError

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
        model: An alias (`coder-1.5b`, `coder-0.5b`), a local folder, or a hub id such as `Qwen/Qwen2.5-1.5B-Instruct`.
        revision: Branch, tag or commit of a hub id.
        cache_dir: Where downloads are kept; None is the cache of huggingface_hub, for aliases that of this package.
        local_files_only: Never download.
        weights: Whether it has to have weights. Without them it says what a prompt is, for a model elsewhere.

    Raises:
        ModelNotFoundError: There is no such model here or in reach.
        CheckpointError: It cannot be used; the subclass and the text say why.
    """
    return _find(model, revision, cache_dir, download=not local_files_only, refresh=False, weights=weights)


def pull(model: str, *, revision: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Bring a model onto this machine, for use without a network, and return its folder.

    A hub id is brought up to date where a hub is in reach. An alias that is there already returns at once.

    Args:
        model: As for `resolve`.
        revision: As for `resolve`.
        cache_dir: As for `resolve`.

    Raises:
        ModelNotFoundError: There is no such model here or in reach.
        CheckpointError: It cannot be used; the subclass and the text say why.
    """
    return _find(model, revision, cache_dir, download=True, refresh=True, weights=True).path


def _find(
    model: str, revision: str | None, cache_dir: str | Path | None, *, download: bool, refresh: bool, weights: bool
) -> Checkpoint:
    release, folder = RELEASES.get(model), Path(model).expanduser()
    if revision is not None and (release is not None or folder.is_dir()):
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
        return open_folder(folder, model, weights=weights)
    if folder.is_dir():
        # The same one when the process changes its working directory.
        return open_folder(folder.absolute(), model, weights=weights)
    _check_hub_id(model, folder)
    return _find_on_hub(model, revision, cache_dir, download=download, refresh=refresh, weights=weights)


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
        raise ModelNotFoundError(f"{model} is a file; model takes the folder that holds config.json and the weights")
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
    path = Path(model).expanduser()
    folders = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(model.lower(), RELEASES, n=2)
    near += [str(path.parent / name) for name in get_close_matches(path.name, folders, n=2, cutoff=0.7)]
    return f". Did you mean {' or '.join(near)}?" if near else ""
