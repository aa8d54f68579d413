"""Checkpoints from a model hub, through huggingface_hub and its cache."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HTTPError,  # of httpx or httpx2, whichever this huggingface_hub is built on
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from langchain_qwen.checkpoints.folder import PICKLES, check_config, refuse_pickles
from langchain_qwen.errors import CheckpointError, ModelNotFoundError
from langchain_qwen.regular_files import read_object

SMALL = ["*.json", "*.txt", "*.jinja"]
WANTED = ["*.safetensors", *SMALL]
REACH_TIMEOUT_S = 5.0  # without a network, say so soon; huggingface_hub alone would wait and retry for minutes

OFFLINE_ADVICE = (
    "For a model that needs no hub run `langchain-qwen pull coder-1.5b` (1.5 billion parameters; or coder-0.5b), "
    'then use model="coder-1.5b"; a local folder works too'
)


def cached_snapshot(hub_id: str, revision: str | None, cache_dir: str | Path | None) -> Path | None:
    """The folder of a snapshot in huggingface_hub's cache, complete or not, without asking the network."""
    config = try_to_load_from_cache(hub_id, "config.json", revision=revision, cache_dir=cache_dir)
    return Path(config).parent if isinstance(config, str) else None


def download(hub_id: str, revision: str | None, cache_dir: str | Path | None, *, weights: bool = True) -> Path:
    """Bring a snapshot into the cache, with or without its weights; what an earlier try left there is continued.

    Architecture and file formats are checked before gigabytes are fetched. Code in the repository is never fetched.

    Raises:
        ModelNotFoundError: No hub can be reached, or it does not have this model.
        UnsupportedModelError: It is not a Qwen2 causal language model.
        UnsafeWeightsError: Its weights are pickles.
        CheckpointError: The cache cannot be written.
    """
    wanted = WANTED if weights else SMALL
    try:
        siblings = HfApi().model_info(hub_id, revision=revision, timeout=REACH_TIMEOUT_S).siblings or []
        files = [sibling.rfilename for sibling in siblings]
        pickles = [file for file in files if any(fnmatch(file, pattern) for pattern in PICKLES)]
        if weights and pickles and not any(file.endswith(".safetensors") for file in files):
            raise refuse_pickles(hub_id, pickles)
        if "config.json" in files:
            config = hf_hub_download(hub_id, "config.json", revision=revision, cache_dir=cache_dir)
            check_config(read_object(Path(config)), hub_id)
        return Path(snapshot_download(hub_id, revision=revision, cache_dir=cache_dir, allow_patterns=wanted))
    except GatedRepoError as error:
        raise ModelNotFoundError(
            f"{hub_id} is gated: ask for access on its page, log in with `hf auth login`, and try again"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"the hub has no model {hub_id!r} (or it is private: log in with `hf auth login`). {OFFLINE_ADVICE}"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{hub_id} has no revision {revision!r}") from error
    except (HTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        raise ModelNotFoundError(
            f"no complete copy of {hub_id} is on this machine, and no hub can be reached "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). {OFFLINE_ADVICE}"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{hub_id} could not be stored in the cache of huggingface_hub: {error}") from error
