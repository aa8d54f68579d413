"""The notebooks: the output kept in them is right, and they run from top to bottom with another model too."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.integration_tests.conftest import MODEL

COOKBOOK = Path(__file__).parents[2] / "cookbook"
AT_A_SERVER = ("07_scaling_out.ipynb",)  # tests/vllm runs it
NOTEBOOKS = sorted(path.name for path in COOKBOOK.glob("*.ipynb") if path.name not in AT_A_SERVER)

# A piece of a cell's code, and what its output has to hold: whatever the model, and with the model it was written for.
ALWAYS = {
    "00_quickstart.ipynb": {
        "reader.invoke": r"Review\(restaurant=.*rating=[1-5]",
        "agent.invoke": r"Tool Message.*18 degrees and sunny in Lisbo(n|a)",
        "When was the bridge": r"As of \d{4}-\d\d-\d\d",
    },
    "01_chat.ipynb": {
        "usage_metadata, message": r"'input_tokens': \d+.*'stop'",
        "Name three of them": r"'cache_read': [1-9]",
        'word " * 40_000': r"tokens.*32768|32,768",
        "call = with_tools": r"get_weather.*Lisbo(n|a)",
        "with_tools.invoke([question, call": r"\w",
        'tool_choice="any"': r"get_weather",
        "Review(BaseModel)": r"rating=5",
        "temprature": r"did you mean 'temperature'",
    },
    "02_conversations.ipynb": {
        'len(messages), "messages': r"18 messages in the store",
        "axes = plot_window": r"image/png",
    },
    "03_personas_and_languages.ipynb": {
        "tonne": r"pirate.*tone",
        "BulletsForm(": r"- .*\n- .*\| fact \| value \|.*\n\n(history|cooking|sports)",
        "class Mill": r"Mill\(built=1742, builder='Anna Keller'\)",
        'builtin("support_agent").warm': r"\d+ tokens are ready",
    },
    "04_grounded_answers.ipynb": {
        "Ignore all previous": r"override",
        "CutoffGuard(model": r"Tour de France\? after_cutoff.*I do not know",
    },
    "05_safety.ipynb": {
        "show_findings": r"email",
        "own = Policy.parse": r"Your order (?!KD-123456).* is on its way.*I cannot tell you that\.",
        "InputGuard(parser)": r"Opening hours: 9 to 5\.(?!.*Ignore all)",
    },
    "06_agents.ipynb": {
        'state["structured_response"]': r"Room\(name=",
        "may it?": r"may it\? book \{.*Oak",
    },
}
WITH_THE_1_5B = {
    "00_quickstart.ipynb": {
        "Why is the sky blue": r"scatter",
        "agent.invoke": r"Ai Message.*Ai Message.*18",
        "When was the bridge": r"1874.*\[1\]|1874",
        "Who designed": r"No answer",
    },
    "01_chat.ipynb": {
        "with_tools.invoke([question, call": r"18",
        "the capital of {country}": r"Paris.*Tokyo.*Lima.*Nairobi",
        "times 7": r"21.*42.*63",
    },
    "02_conversations.ipynb": {"what is my own name": r"Ada.*4831|4831.*Ada"},
    "03_personas_and_languages.ipynb": {
        "BulletsForm(": r"1742.*Anna Keller",
        "solve(model)": r"10",
        "question in": r"Anna Keller.*1742",
    },
    "04_grounded_answers.ipynb": {
        'How old must a Senator be?")\nanswer': r"thirty|30",
        "west coast": r"not answer|NOT_STATED",
        "term of the President": r"four|4",
    },
    "05_safety.ipynb": {"guarded.stream": r"\[EMAIL\]"},
    "06_agents.ipynb": {
        "List the meeting rooms": r"calls list_rooms",
        "Is the room Oak free on Monday": r"calls is_free.*(taken|not free|not available)",
        "Book the room Elm": r"calls book.*\('Elm', 'Monday'\)",
        "did you book for me": r"Elm.*Monday|Monday.*Elm",
        "structured_response": r"Room\(name='Oak', seats=20\)",
        "ask_about_hours": r"9 to 20|9:00",
        "Command(resume": r"True",
        "stream_mode": r"\[tools\].*\[model\]",
        "ContextOverflowError": r"the prompt has.*\d",
        "HistoryMiddleware(": r"projector|shortened",
    },
}


def shown(cell) -> str:
    """All that a cell prints and shows, as text."""
    parts = []
    for output in cell.outputs:
        data = output.get("data", {})
        parts += [output.get("text", ""), data.get("text/html", ""), data.get("text/plain", ""), *data]
    return "\n".join(parts)


def check(notebook, expected: dict[str, str]) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for code, pattern in expected.items():
        found = [cell for cell in cells if code in cell.source]
        assert found, f"no cell holds {code!r}"
        outputs = "\n".join(map(shown, found))
        assert re.search(pattern, outputs, re.DOTALL), f"{code!r}: {pattern!r} is not in\n{outputs}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_output_that_is_kept(name):
    notebook = nbformat.read(COOKBOOK / name, as_version=4)
    assert "you will" in notebook.cells[0].source  # what one has at its end
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs, "run `make notebooks`"
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    check(notebook, ALWAYS[name])
    check(notebook, WITH_THE_1_5B[name])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, monkeypatch):
    check(run(name, monkeypatch), ALWAYS[name])


def run(name, monkeypatch):
    """Run a notebook with the tests' model; each error in it is one here."""
    monkeypatch.setenv("COOKBOOK_MODEL", MODEL)
    notebook = nbformat.read(COOKBOOK / name, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("coder-1.5b", MODEL)
        if cell.cell_type == "code":
            cell.outputs = []
    place = {"metadata": {"path": str(COOKBOOK)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    printed = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert printed
    assert not [output for output in printed if output.output_type == "error"]
    return notebook
