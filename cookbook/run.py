"""Runs a notebook from top to bottom and keeps its output in it: `python cookbook/run.py cookbook/01_chat.ipynb`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run(path: Path) -> None:
    """Run it in its own folder, with a new kernel."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran would change with each run
        kept = [output for output in cell.get("outputs", []) if not _gone(output)]
        if cell.cell_type == "code":
            cell.outputs = kept
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(notebook, path)


def _gone(output: dict) -> bool:
    """A progress bar that has been taken away."""
    return output.get("output_type") == "display_data" and output["data"] == {"text/html": ""}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
