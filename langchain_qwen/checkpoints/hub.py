"""Checkpoints from a model hub, through huggingface_hub: its cache, its resuming, its progress bars."""

from __future__ import annotations

from pathlib import Path

import httpx
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from langchain_qwen.errors import ModelNotFoundError

# Safetensors and text only: no pickles, no code.
WANTED = ["*.safetensors", "*.json", "*.txt", "*.jinja"]
WITHOUT_HUB = (
    'To get a model that works without a hub, run `langchain-qwen pull coder-1.5b` and use model="coder-1.5b", '
    "or pass the folder of a checkpoint"
)


def hub_folder(model: str, *, revision: str | None, cache_dir: str | Path | None, download: bool) -> Path:
    """The snapshot of a repository, from the cache, or downloaded where that is allowed.

    Args:
        model: An id such as "Qwen/Qwen2.5-1.5B-Instruct".
        revision: Branch, tag or commit.
        cache_dir: huggingface_hub's cache; None for its usual place.
        download: Whether to use the network when the cache has no whole snapshot.

    Raises:
        ModelNotFoundError: Neither the cache nor the hub has it.
    """
    try:
        return Path(_snapshot(model, revision, cache_dir, local_files_only=True))
    except HFValidationError as error:
        raise ModelNotFoundError(f"{model!r} is no alias, no folder and no hub id. {WITHOUT_HUB}") from error
    except LocalEntryNotFoundError as error:
        if not download:
            raise ModelNotFoundError(f"{model} is not in the cache, and downloading is off. {WITHOUT_HUB}") from error
    try:
        return Path(_snapshot(model, revision, cache_dir, local_files_only=False))
    except HfHubHTTPError as error:
        raise ModelNotFoundError(f"the hub does not give {model}: {error}. {WITHOUT_HUB}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        raise ModelNotFoundError(f"{model} is not in the cache, and no hub is in reach. {WITHOUT_HUB}") from error


def _snapshot(model: str, revision: str | None, cache_dir: str | Path | None, *, local_files_only: bool) -> str:
    return snapshot_download(
        model,
        revision=revision,
        cache_dir=cache_dir,
        allow_patterns=WANTED,
        local_files_only=local_files_only,
    )
