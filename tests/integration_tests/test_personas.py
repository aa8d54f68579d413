"""Personas, languages and tasks on a real checkpoint."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from langchain_qwen import ChatQwen
from langchain_qwen.personas import BulletsForm, LabelsForm, SentencesForm, TableForm, builtin
from langchain_qwen.personas.detection import detect, main_script
from langchain_qwen.personas.tasks import classify, extract, solve, summarize, translate, write_code

MILL = (
    "The old mill in Harburg was built in 1742 by Anna Keller. It burned down in 1810 and was rebuilt of stone. "
    "Today it houses a small museum of bread."
)


@pytest.mark.parametrize(
    "form",
    [
        BulletsForm(at_least=2, at_most=2),
        SentencesForm(at_most=1),
        LabelsForm(labels=("old", "new")),
        TableForm(max_rows=2),
    ],
    ids=lambda form: form.kind,
)
def test_forms_hold(model, form):
    answer = (builtin("assistant").replace(output=form) | model).invoke(f"Tell me of this mill.\n\n{MILL}")
    assert form.problem(answer.text) is None
    assert answer.response_metadata["finish_reason"] == "stop"


def test_json_streams_in_form(model):
    form = builtin("json_only").output
    text = "".join(chunk.text for chunk in (builtin("json_only") | model).stream("Two colours and their hex codes."))
    assert form.problem(text) is None


async def test_the_language_of_the_question(model):
    question = f"{MILL}\n\nWann brannte die Mühle ab? Antworte in einem ganzen Satz."
    answer = await (builtin("assistant") | model).ainvoke(question)
    assert answer.response_metadata["persona"]["language_held"]
    assert detect(answer.text).code == "de"


def test_a_second_try_is_held_to_the_letters_of_the_language(model):
    persona = builtin("assistant").replace(language="el", retry_language=True)
    answer = persona.with_model(model).invoke("Translate into Turkish and say nothing else: The sea is calm today.")
    assert main_script(answer.text)[0] == "greek"


def test_a_forced_language(model):
    persona = builtin("assistant").replace(language="es", retry_language=True)
    answer = (persona | model).invoke(f"{MILL}\n\nWhat is in the mill today? Answer in a full sentence.")
    assert detect(answer.text).code == "es"


def test_examples_shape_the_answer(model):
    persona = builtin("extractor")
    answer = (persona | model).invoke("Order 12 by Bob Hill, 2 chairs, to be delivered on Monday.")
    assert '"quantity": 2' in answer.text
    assert answer.usage_metadata["input_tokens"] == model.get_num_tokens_from_messages(
        persona.messages("Order 12 by Bob Hill, 2 chairs, to be delivered on Monday.")
    )


def test_a_warm_persona_starts_from_the_cache_and_from_the_disk(model, tmp_path, monkeypatch):
    persona = builtin("support_agent").partial(company="Harburg Mill Ltd")
    expected = (persona | model).invoke("My bread is late.", max_tokens=12)
    with monkeypatch.context() as patch, ChatQwen(**{**model.model_dump(), "kv_cache_bytes": 2**26}) as other:
        other.load()  # an engine of its own
        patch.setattr("langchain_qwen.backends.cache_root", lambda: tmp_path)
        held = persona.warm(model)
        assert persona.warm(other) == held > 100
        answer = (persona | other).invoke("My bread is late.", max_tokens=12)
    assert answer.text == expected.text
    assert answer.usage_metadata["input_token_details"]["cache_read"] >= held


def test_extract(model):
    class Mill(BaseModel):
        year_built: int = Field(description="when it was built")
        builder: str

    assert extract(model, Mill).invoke(MILL) == Mill(year_built=1742, builder="Anna Keller")


def test_classify(model):
    subjects = classify(model, ["cooking", "history", "football"])
    texts = [MILL, "Boil the potatoes in salted water for 20 minutes, then mash them with butter."]
    labels = [result.label for result in subjects.batch(texts)]
    assert labels[1] == "cooking"
    assert labels[0] in ("cooking", "history", "football")


def test_write_code(model):
    code = write_code(model).invoke("A function `double(x)` that returns twice x.")
    assert code.problem is None
    assert "def double" in code.code


def test_solve(model):
    assert solve(model).invoke("A loaf costs 3 euros. What do 4 loaves cost?").number == 12


def test_translate(model):
    translation = translate(model, "French").invoke("The museum is open today.")
    assert (translation.source, translation.target, translation.held) == ("en", "fr", True)


def test_a_text_longer_than_a_piece(model):
    summary = summarize(model, sentences=1, max_input_tokens=64).invoke(MILL + "\n\n" + MILL.replace("mill", "inn"))
    assert summary.pieces == 2
    assert SentencesForm(at_most=1).problem(summary.text) is None
