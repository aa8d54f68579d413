"""Every block of Python in the README and the manual runs, page by page and from top to bottom.

A block behind `<!-- not run: REASON -->` is compiled only.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from langchain_qwen import ChatQwen
from tests.integration_tests.conftest import MODEL

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<mark><!-- not run: (?P<reason>.*?) -->\n)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)?(?P<anchor>#[^)\s]+)?\)")


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
    names = {"__name__": "__main__"}
    for code, line, reason in blocks(page):
        # Lines as in the page, so that a failure is found there.
        program = compile("\n" * line + code.replace("coder-1.5b", MODEL), str(page), "exec")
        if reason is None:
            exec(program, names)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for match in LINK.finditer(text):
        target = match["target"]
        if target and re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {target}"
        if match["anchor"] and file.suffix == ".md":
            assert match["anchor"][1:] in anchors(file), f"{page.name}: {match['anchor']}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert {page.name for page in PAGES[1:]} == set(re.findall(r"([\w-]+\.md)$", menu, re.MULTILINE))


def test_every_error_is_in_the_manual():
    tree = re.findall(r"── (\w+Error)", (ROOT / "langchain_qwen" / "errors.py").read_text(encoding="utf-8"))
    groups = {"ConfigurationError", "CheckpointError", "RequestError"}
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert [name for name in tree if name not in groups and f"| `{name}` |" not in page] == []
