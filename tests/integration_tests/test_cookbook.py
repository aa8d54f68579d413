"""The notebooks run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.integration_tests.conftest import MODEL

COOKBOOK = Path(__file__).parents[2] / "cookbook"
AT_A_SERVER = ("07_scaling_out.ipynb",)


@pytest.mark.parametrize("name", sorted(path.name for path in COOKBOOK.glob("*.ipynb")))
def test_notebook(name, monkeypatch):
    if name in AT_A_SERVER:
        pytest.skip("it needs a server: tests/vllm runs it")
    run(name, monkeypatch)


def run(name, monkeypatch):
    """Run a notebook; each error in it is one here."""
    monkeypatch.setenv("COOKBOOK_MODEL", MODEL)
    notebook = nbformat.read(COOKBOOK / name, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(COOKBOOK)}}
    ).execute()
    printed = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert printed
    assert not [o for o in printed if o.output_type == "error"]
