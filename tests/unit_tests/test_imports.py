"""Public names, and the one direction in which imports run."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import langchain_qwen

PACKAGE = Path(langchain_qwen.__file__).parent

# Each part and what it may import, the way of a call: messages -> prompting -> engine -> output -> chunks.
MAY_IMPORT = {
    "errors": set(),
    "_version": set(),
    "forks": set(),
    "regular_files": {"errors"},
    "rebuilt": set(),
    "checkpoints": {"errors", "forks", "regular_files"},
    "prompting": {"errors", "forks", "regular_files"},
    "bars": set(),
    "engine": {"errors", "forks", "bars", "checkpoints", "_version"},
    "output": {"errors", "engine"},
    "other_names": set(),
    "parameters": {"errors", "engine", "other_names"},
    "converting": {"errors"},
    "structured_output": {"converting", "errors"},
    "configuring": {"structured_output"},
    "profile": {"checkpoints", "parameters"},
    "results": set(),
    "reading": {"bars", "engine"},
    "together": {"engine", "reading", "results"},
    "opening": {"checkpoints", "parameters", "prompting"},
    "backends": {"errors", "checkpoints", "engine", "opening", "prompting"},
    "generating": {
        "errors",
        "backends",
        "converting",
        "engine",
        "opening",
        "output",
        "parameters",
        "prompting",
        "reading",
        "stepping",
        "structured_output",
        "together",
    },
    "base": {
        "backends",
        "checkpoints",
        "configuring",
        "engine",
        "generating",
        "opening",
        "output",
        "parameters",
        "prompting",
        "structured_output",
        "together",
    },
    "chat_models": {
        "_version",
        "base",
        "generating",
        "output",
        "parameters",
        "profile",
        "reading",
        "results",
        "structured_output",
        "together",
    },
    "capabilities": {"errors", "prompting"},
    "inputs": {"errors"},
    "stepping": set(),
    "yes_or_no": set(),
    "decisions": {"errors", "chat_models", "prompting", "yes_or_no"},
    "grounding": {"errors", "inputs", "capabilities", "chat_models", "personas", "stepping", "yes_or_no"},
    "history": {
        "errors",
        "checkpoints",
        "converting",
        "forks",
        "inputs",
        "prompting",
        "capabilities",
        "rebuilt",
        "stepping",
    },
    "init_chat_model": {"errors"},
    "personas": {"errors", "inputs", "output", "capabilities", "stepping", "regular_files"},
    "quantizing": {"bars", "errors", "checkpoints", "engine", "prompting"},
    "cli": {
        "_version",
        "errors",
        "backends",
        "bars",
        "opening",
        "checkpoints",
        "engine",
        "chat_models",
        "prompting",
        "personas",
        "quantizing",
        "regular_files",
    },
    "safety": {
        "errors",
        "forks",
        "inputs",
        "capabilities",
        "prompting",
        "reading",
        "rebuilt",
        "regular_files",
        "results",
        "structured_output",
        "together",
        "yes_or_no",
    },
    "middleware": {"errors", "capabilities", "inputs", "grounding", "history", "personas", "safety"},
}


def part_of(module: str) -> str:
    return module.split(".")[1]


# What users import. Whatever is not here may change with any release.
PUBLIC = {
    "": "ChatQwen __version__ register_init_chat_model",
    "grounding": "AbstainReason AnswerText BM25Retriever Citation CutoffGuard CutoffVerdict "
    "GroundedAnswer GroundedAnswerer HybridRetriever Timing retriever_tool split_documents",
    "history": "ConversationStats HistoryTrimmer OneWriterPerThread pin plot_window",
    "middleware": "CompactHistoryMiddleware CutoffMiddleware GroundingMiddleware HistoryMiddleware LoopGuard "
    "PersonaMiddleware SafetyMiddleware loop_in",
    "personas": "BulletsForm Example JsonForm LabelsForm Persona SentencesForm TableForm WeakLanguageWarning builtin "
    "builtins load_persona load_personas",
    "personas.tasks": "classify extract solve summarize translate write_code",
    "safety": "Action Category Detector InputGuard Policy Rule SafetyParser Severity show_findings",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_these_and_say_what_they_are(name):
    package = importlib.import_module(f"langchain_qwen.{name}".rstrip("."))
    assert list(package.__all__) == PUBLIC[name].split()
    for public in package.__all__:
        thing = getattr(package, public)
        assert not callable(thing) or thing.__doc__, public


def test_imports_run_one_way():
    seen = set()
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE).with_suffix("")
        if relative.parts == ("__init__",):
            continue
        part = relative.parts[0]
        seen.add(part)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module:
                if node.module == "langchain_qwen":
                    modules = [f"langchain_qwen.{alias.name}" for alias in node.names]
                else:
                    modules = [node.module]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            for module in modules:
                if module.startswith("langchain_qwen."):
                    assert part_of(module) in MAY_IMPORT[part] | {part}, f"{path} imports {module}"
    assert seen == set(MAY_IMPORT)


def test_no_files_import_each_other_in_a_circle():
    """Imports within functions and for types count too: whoever changes one file of a circle has to read them all."""
    files = {
        ".".join(("langchain_qwen", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
    }
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    below: dict[str, set[str]] = {}
    for name, path in files.items():
        below[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                below[name] |= {one if (one := f"{node.module}.{a.name}") in files else node.module for a in node.names}
            elif isinstance(node, ast.Import):
                below[name] |= {alias.name for alias in node.names}
        below[name] = (below[name] & files.keys()) - {name}
    while leaves := {name for name, imported in below.items() if not imported}:
        below = {name: imported - leaves for name, imported in below.items() if name not in leaves}
    assert not below, f"in or above a circle: {', '.join(sorted(below))}"


def test_the_engine_knows_nothing_of_langchain():
    for path in (PACKAGE / "engine").rglob("*.py"):
        assert "langchain_core" not in path.read_text(encoding="utf-8"), path


def test_the_command_line_starts_without_torch():
    code = "import sys, langchain_qwen.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_of_this_machine_needs_no_http_client():
    code = "import sys, langchain_qwen.chat_models; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tree_of_the_manual_is_the_disk():
    page = (PACKAGE.parent / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    tree = page.split("    langchain_qwen/\n")[1].split("\n\n")[0]
    for line in tree.splitlines():
        name = line.split()[0]
        if line.startswith("      ") and not line.startswith("        "):
            assert (PACKAGE / name).exists(), name
        elif line.startswith("        "):
            assert (PACKAGE / "engine" / name).exists(), name
