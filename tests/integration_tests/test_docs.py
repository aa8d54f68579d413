"""Every block of Python in the README and the manual runs, page by page and from top to bottom.

A block behind `<!-- not run: REASON -->` is compiled only.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from langchain_qwen import ChatQwen
from tests.integration_tests.conftest import MODEL

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<mark><!-- not run: (?P<reason>.*?) -->\n)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


def blocks(page: Path) -> list[tuple[str, int, str | None]]:
    """Code, line, and why it is not run."""
    text = page.read_text(encoding="utf-8")
    return [(m["code"], text[: m.start("code")].count("\n"), m["reason"]) for m in BLOCK.finditer(text)]


@pytest.fixture(scope="module", autouse=True)
def weights():
    """Held, so that the pages need not load them again and again."""
    with ChatQwen(model=MODEL) as model:
        model.load()
        yield


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    module = ModuleType("page")  # where classes of the page look their annotations up
    monkeypatch.setitem(sys.modules, "page", module)
    for code, line, reason in blocks(page):
        # Lines as in the page, so that a failure is found there.
        program = compile("\n" * line + code.replace("coder-1.5b", MODEL), str(page), "exec")
        if reason is None:
            exec(program, vars(module))
    assert "Traceback" not in capsys.readouterr().err


def test_the_code_of_the_first_docstring_runs(monkeypatch):
    module = ModuleType("docstring")
    monkeypatch.setitem(sys.modules, "docstring", module)
    found = [m["code"] for m in BLOCK.finditer(inspect.getdoc(ChatQwen) or "")]
    assert len(found) > 3
    for code in found:
        exec(compile(code.replace("coder-1.5b", MODEL), "docstring", "exec"), vars(module))
