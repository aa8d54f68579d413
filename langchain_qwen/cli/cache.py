"""`langchain-qwen pull`, `list` and `remove`: models onto this machine, what lies on it, and away with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from langchain_qwen.cli.terminal import say, show, waiting
from langchain_qwen.errors import CheckpointError, InvalidParameterError

PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that takes space.

    Attributes:
        name: What it is called, here and for `remove`.
        what: What it is.
        size: Bytes.
        places: Its files and folders; None for what the hub client keeps.
    """

    name: str
    what: str
    size: int
    places: tuple[Path, ...] | None


def pull(model: str, revision: str | None) -> None:
    """Download a model unless it is here, and print its folder or file.

    Raises:
        CheckpointError: It cannot be had.
    """
    with waiting("Starting"):
        from langchain_qwen import checkpoints
    try:
        folder = checkpoints.pull(model, revision=revision)
    except KeyboardInterrupt:
        say(f"(stopped; `langchain-qwen pull {model}` goes on with what has come)")
        raise
    show(str(folder))
    say(f'Use it: langchain-qwen chat --model {model}, or ChatQwen(model="{model}").')


def list_aliases() -> None:
    """Print the models that need no hub, their sizes, and whether they are here."""
    with waiting("Starting"):
        from langchain_qwen.checkpoints import RELEASES, alias_folder
    table = Table("alias", "model", "download", "on disk", "here", box=None, header_style="bold", pad_edge=False)
    for release in RELEASES.values():
        here = "yes" if alias_folder(release.alias).is_dir() else "no"
        on_disk = f"{2 * release.gguf_bytes / 1e9:.1f} GB"  # the file, and what is packed from it
        table.add_row(release.alias, release.title, f"{release.gguf_bytes / 1e9:.1f} GB", on_disk, here)
    show(table)
    say("Get one: langchain-qwen pull ALIAS. Ids of the model hub work too: langchain-qwen pull OWNER/NAME.")


def list_kept() -> None:
    """Print all of it with its size."""
    found = _find()
    table = Table("name", "what", box=None, header_style="bold", pad_edge=False)
    table.add_column("size", justify="right")
    for one in found:
        table.add_row(one.name, one.what, f"{one.size / 1e9:.1f} GB")
    if found:
        show(table)
    else:
        say("Nothing is here yet; `langchain-qwen pull` lists models that can be had.")


def remove(name: str, *, confirm: Callable[[str], bool]) -> None:
    """Delete one of them.

    Args:
        name: As `list_kept` shows it.
        confirm: Asked before.

    Raises:
        InvalidParameterError: There is none of that name.
        CheckpointError: It cannot be deleted.
    """
    found = {one.name: one for one in _find()}
    if name not in found:
        raise InvalidParameterError(f"there is no {name} on this machine; there are: {', '.join(found) or 'none'}")
    one = found[name]
    if not confirm(f"Delete {one.name} ({one.what}, {one.size / 1e9:.1f} GB)?"):
        return
    if one.places is None:
        _remove_from_hub(name)
    try:
        for place in one.places or ():
            _delete(place)
    except OSError as error:
        raise CheckpointError(f"{name} could not be deleted: {error}") from error
    say(f"({one.size / 1e9:.1f} GB are free again)")


def _find() -> list[Kept]:
    with waiting("Looking around"):
        from huggingface_hub import constants

        from langchain_qwen.checkpoints import RELEASES, cache_root
        from langchain_qwen.cli.doctor.facts import hub_contents

    root = cache_root()
    found = []
    for entry in sorted((root / "checkpoints").glob("*")):
        if entry.name in RELEASES:
            found.append(_kept(entry.name, RELEASES[entry.name].title, entry))
        elif entry.name.startswith(".") and entry.name.endswith(PARTIAL):
            alias = entry.name.removeprefix(".").removesuffix(PARTIAL)
            found.append(_kept(f"{alias}{PARTIAL}", "a download that was stopped; `pull` goes on with it", entry))
    found += [
        Kept(name, "from the model hub", size, None)
        for name, size in hub_contents(Path(constants.HF_HUB_CACHE)).items()
    ]
    for name, what in (
        ("packed", "weights in the form that the CPU engine reads; made anew when needed"),
        ("prefixes", "beginnings of prompts; made anew when needed"),
    ):
        if files := sorted(file for file in (root / name).glob("*") if file.suffix != ".lock"):
            found.append(_kept(name, what, *files))
    return found


def _kept(name: str, what: str, *places: Path) -> Kept:
    from langchain_qwen.cli.doctor.facts import size_of

    return Kept(name, what, sum(map(size_of, places)), places)


def _delete(place: Path) -> None:
    if not place.is_dir():
        place.unlink()
        return
    # Under another name first: what is half deleted must not be taken for a model.
    gone = place.with_name(f".{place.name}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    place.rename(gone)
    shutil.rmtree(gone)


def _remove_from_hub(name: str) -> None:
    from huggingface_hub import constants, scan_cache_dir

    cache = scan_cache_dir(constants.HF_HUB_CACHE)
    commits = [r.commit_hash for repo in cache.repos if repo.repo_id == name for r in repo.revisions]
    cache.delete_revisions(*commits).execute()
