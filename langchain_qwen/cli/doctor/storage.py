"""What is on the disk, and whether more can be had."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HTTPError

from langchain_qwen.checkpoints import cache_root

HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder with models: their names and bytes, and what the disk has left."""

    folder: str
    contents: dict[str, int]
    disk_free: int


@dataclass(frozen=True, slots=True)
class Hub:
    """A model hub: "reachable", "off" (HF_HUB_OFFLINE is set) or "out of reach"."""

    address: str
    state: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Our own cache, the hub's, and the hub."""

    own: Cache
    hub_cache: Cache
    hub: Hub


def examine_storage() -> Storage:
    """Look, and ask the hub for a sign of life."""
    own, hub_cache = cache_root(), Path(constants.HF_HUB_CACHE)
    return Storage(_cache(own, own_contents(own)), _cache(hub_cache, hub_contents(hub_cache)), ask_hub())


def own_contents(folder: Path) -> dict[str, int]:
    """Pulled checkpoints and packed weights, by their paths in the folder; half-made ones are not shown."""
    entries = sorted(
        entry for entry in folder.glob("*/*") if entry.suffix != ".lock" and not entry.name.startswith(".")
    )
    return {entry.relative_to(folder).as_posix(): _size(entry) for entry in entries}


def hub_contents(folder: Path) -> dict[str, int]:
    """The Qwen models in the hub client's cache; it keeps files as blobs and links to them from snapshots."""
    found = {entry.name.removeprefix("models--").replace("--", "/", 1): entry for entry in folder.glob("models--*")}
    return {name: _size(entry / "blobs") for name, entry in sorted(found.items()) if "qwen" in name.lower()}


def _cache(folder: Path, contents: dict[str, int]) -> Cache:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return Cache(str(folder), contents, shutil.disk_usage(existing).free)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def ask_hub() -> Hub:
    """Whether the hub answers within a few seconds."""
    if constants.HF_HUB_OFFLINE:
        return Hub(constants.ENDPOINT, "off")
    answered = threading.Event()

    def ask() -> None:
        try:
            response = get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
        except (HTTPError, OSError):
            return
        if not response.is_error:  # a proxy may answer for a hub that it does not let through
            answered.set()

    # On a thread, since looking up a name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_S)
    return Hub(constants.ENDPOINT, "reachable" if answered.is_set() else "out of reach")
