"""Where weights come from, what is checked of them, and how torch loads them."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from langchain_qwen.checkpoints.aliases import RELEASES, alias_folder, cache_root
from langchain_qwen.checkpoints.folder import Checkpoint, open_folder
from langchain_qwen.checkpoints.hub import WITHOUT_HUB, hub_folder
from langchain_qwen.checkpoints.load import choose_device, choose_precision, load_model
from langchain_qwen.checkpoints.pulling import pull_alias
from langchain_qwen.errors import ModelNotFoundError

__all__ = [
    "RELEASES",
    "Checkpoint",
    "alias_folder",
    "cache_root",
    "choose_device",
    "choose_precision",
    "load_model",
    "open_folder",
    "pull",
    "resolve",
]


def resolve(
    model: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Find a checkpoint, downloading it if need be and allowed, and check it.

    Args:
        model: An alias, a folder, or a hub id.
        revision: Branch, tag or commit of a hub id.
        cache_dir: Where downloads are kept.
        local_files_only: Never download.

    Raises:
        ModelNotFoundError: There is none, with what to do next.
        CheckpointError: It cannot be used.
    """
    if model in RELEASES:
        if local_files_only and not alias_folder(model, cache_dir).is_dir():
            raise ModelNotFoundError(f"{model} is not here yet; run `langchain-qwen pull {model}`")
        return open_folder(pull_alias(RELEASES[model], cache_dir), model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return open_folder(folder, model)
    looks_like_a_path = model.startswith((".", "~", os.sep)) or model.count("/") > 1
    if looks_like_a_path:
        raise ModelNotFoundError(f"there is no folder {folder.absolute()}. {WITHOUT_HUB}")
    if "/" not in model:
        near = difflib.get_close_matches(model, RELEASES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelNotFoundError(f"{model!r} is no alias, no folder and no hub id; {hint}{WITHOUT_HUB}")
    path = hub_folder(model, revision=revision, cache_dir=cache_dir, download=not local_files_only)
    return open_folder(path, model)


def pull(model: str, *, revision: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Download a model, with progress bars, unless it is here; returns its folder."""
    return resolve(model, revision=revision, cache_dir=cache_dir).path
