"""`langchain-qwen pull`: get a model, or see which can be had without a model hub."""

from __future__ import annotations

from rich.table import Table

from langchain_qwen.cli.terminal import say, show, waiting


def pull(model: str, revision: str | None) -> None:
    """Download a model unless it is here, and print its folder.

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
        on_disk = f"{2 * release.parameters / 1e9:.1f} GB"  # held as bf16
        table.add_row(release.alias, release.title, f"{release.gguf_bytes / 1e9:.1f} GB", on_disk, here)
    show(table)
    say("Get one: langchain-qwen pull ALIAS. Ids of the model hub work too: langchain-qwen pull OWNER/NAME.")
