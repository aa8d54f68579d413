"""Tasks over personas, with scripted answers."""

from __future__ import annotations

import sys
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field

from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidParameterError, PersonaError
from langchain_qwen.personas.tasks import classify, extract, solve, summarize, translate, write_code
from langchain_qwen.personas.tasks.solve import only_number
from langchain_qwen.personas.tasks.summarize import pieces
from langchain_qwen.personas.tasks.write_code import Code, code_of, syntax_problem


class Scripted(GenericFakeChatModel):
    prompts: list = Field(default_factory=list)

    def _generate(self, messages, *args, **kwargs):
        self.prompts.append(messages)
        return super()._generate(messages, *args, **kwargs)

    def get_num_tokens(self, text):
        return len(text.split())

    def get_num_tokens_from_messages(self, messages, tools=None):
        return sum(len(message.text.split()) for message in messages)


def scripted(*answers):
    return Scripted(messages=iter([AIMessage(answer) for answer in answers]))


@pytest.fixture(scope="module")
def qwen(tiny_checkpoint):
    with ChatQwen(model=str(tiny_checkpoint), temperature=1, precision="fp32", device="cpu", max_tokens=100) as model:
        yield model


class TestClassify:
    def test_a_label_always(self, qwen):
        task = classify(qwen, {"spam": "wants {money}", "ham": "is fine"}, instructions="Look at {this}.")
        assert {task.invoke(text).label for text in ("a", "b", "c")} <= {"spam", "ham"}

    async def test_async(self, qwen):
        assert (await classify(qwen, ["x", "y"]).ainvoke("a")).label in "xy"

    def test_bad_labels(self, qwen):
        with pytest.raises(PersonaError):
            classify(qwen, ["a", "a"])
        with pytest.raises(PersonaError):
            classify(qwen, [])


def test_extract(qwen):
    class Order(BaseModel):
        number: int = Field(ge=0, le=9)
        paid: bool

    assert isinstance(extract(qwen, Order).invoke("Order 3, paid"), Order)


async def test_a_task_is_a_tool_for_agents(qwen):
    tool = classify(qwen, ["x", "y"]).as_tool(name="sort", description="Sorts a text.")
    (argument,) = tool.args.values()
    assert argument["type"] == "string"
    assert tool.invoke("a").label in "xy"
    assert (await tool.ainvoke("a")).label in "xy"
    assert solve(qwen).get_input_jsonschema()["type"] == "string"


class TestTranslate:
    def test_result(self):
        model = scripted("Das Wetter ist heute sehr schön.")
        result = translate(model, "German").invoke("The weather is very nice today.")
        assert (result.source, result.target, result.held) == ("en", "de", True)
        assert "German (Deutsch)" in model.prompts[0][0].text
        assert model.prompts[0][-1].text.endswith("\n\nThe weather is very nice today.")

    def test_asked_again(self):
        model = scripted("The weather is very nice today.", "Das Wetter ist heute sehr schön.")
        assert translate(model, "de").invoke("The weather is very nice today.").text.startswith("Das")
        assert len(model.prompts) == 2

    def test_unknown(self):
        with pytest.raises(PersonaError):
            translate(scripted(), "Elvish")


class TestWriteCode:
    GOOD = "Here:\n```python\nx = 1\n```\nThat is it."

    def test_result(self):
        assert write_code(scripted(self.GOOD)).invoke("x") == Code(code="x = 1", language="python", problem=None)

    def test_asked_again(self):
        model = scripted("```python\nx = = 1\n```", self.GOOD)
        assert write_code(model).invoke("x").code == "x = 1"
        assert "does not parse: invalid syntax (line 1)" in model.prompts[1][-1].text

    async def test_still_wrong(self):
        result = await write_code(scripted("x = = 1", "y = = 1")).ainvoke("x")
        assert result.code == "y = = 1"
        assert "invalid syntax" in result.problem

    def test_batch_keeps_order(self):
        codes = write_code(scripted("a = 1", "b = 2")).batch(["a", "b"], {"max_concurrency": 1})
        assert [code.code for code in codes] == ["a = 1", "b = 2"]

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("```python\nx = 1\n```", "x = 1"),
            ("```\nx = 1", "x = 1"),
            ("a\n```sh\npip\n```\nb\n```python\nx = 1\ny = 2\n```", "x = 1\ny = 2"),
            ("x = '```'", "x = '```'"),
            ("  return 1\n", "  return 1"),
        ],
    )
    def test_code_of(self, text, code):
        assert code_of(text) == code

    @pytest.mark.parametrize(
        ("code", "language", "fine"),
        [
            ("def f(): pass", "Python", True),
            ("def f() pass", "python", False),
            ("", "python", False),
            ('{"a": [1]}', "json", True),
            ("{'a': 1}", "json", False),
            ("SELECT a FROM t WHERE b = ';'; DELETE FROM t;", "sql", True),
            ("SELEC a FROM t", "sql", False),
            ("SELECT a FROM", "sql", False),
            ("CREATE TABLE t (a INT)", "sqlite", True),
            ("-- nothing", "sql", False),
            ("", "sql", False),
            ("fn main( {", "rust", True),
        ],
    )
    def test_syntax(self, code, language, fine):
        assert (syntax_problem(code, language) is None) == fine


class TestSolve:
    def test_marked(self):
        result = solve(scripted("2 + 2 = 4. So \\boxed{4}")).invoke("2 + 2?")
        assert (result.answer, result.number) == ("4", Decimal(4))
        assert result.steps.startswith("2 + 2")

    def test_asked_for(self):
        model = scripted("It is four apples, 4.", "4 apples.")
        assert solve(model).invoke("How many?").number == 4
        assert [m.type for m in model.prompts[1]] == ["system", "human", "ai", "human"]

    @pytest.mark.parametrize(
        ("text", "number"),
        [("1,234.5", "1234.5"), ("$18$", "18"), ("-3 degrees", "-3"), ("3/4", None), ("x", None), ("5\\!000", "5000")],
    )
    def test_number(self, text, number):
        assert only_number(text) == (None if number is None else Decimal(number))


class TestSummarize:
    def test_what_fits(self):
        model = scripted("- short")
        result = summarize(model, bullets=2).invoke("A long text about mills.")
        assert (result.text, result.pieces) == ("- short", 1)

    def test_what_does_not(self):
        model = scripted(*["- part"] * 3, "- all")
        text = "\n\n".join(f"Paragraph {n} has " + "many words " * 30 for n in range(3))
        result = summarize(model, max_input_tokens=70).invoke(text, {"max_concurrency": 1})
        assert (result.text, result.pieces) == ("- all", 3)
        assert [prompt[-1].text for prompt in model.prompts[:3]] == [part.strip() for part in text.split("\n\n")]
        assert model.prompts[3][-1].text == "- part\n\n- part\n\n- part"

    def test_on_a_window(self, qwen):
        """Real counts: no piece overflows the window of 2048 tokens, however the model is wrapped."""
        model = qwen.model_copy(update={"max_tokens": 6})
        for wrapped in (model, model.with_retry(), qwen.bind(max_tokens=6), model.with_fallbacks([model])):
            result = summarize(wrapped, bullets=1).invoke("The mill stands by the river. " * 160)
            assert result.pieces > 1

    def test_another_model_that_is_wrapped(self):
        assert summarize(scripted("- all").with_retry()).invoke("A short text.").text == "- all"

    def test_mistakes(self):
        with pytest.raises(InvalidParameterError, match="drop one"):
            summarize(scripted(), sentences=1, bullets=1)
        with pytest.raises(InvalidParameterError, match="too short"):
            summarize(scripted(), max_input_tokens=10).invoke("x")
        with pytest.raises(InvalidParameterError, match="do not get shorter"):
            summarize(scripted(*["- " + "x " * 60] * 4), max_input_tokens=64).invoke("a b " * 60)

    @given(st.lists(st.sampled_from(["word", " ", ". ", "\n", "\n\n", "长", "。", "x" * 40]), max_size=60).map("".join))
    @settings(deadline=None, max_examples=100)
    def test_pieces(self, text):
        parts = pieces(text, 20, len)
        assert all(len(part) <= 20 for part in parts)
        assert "".join("".join(parts).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("\u22125", "-5"),
        ("1,2,3", None),
        ("1\\,000", "1000"),
        ("1,00,000", "100000"),
        ("-1,234.5", "-1234.5"),
        ("1,2345", None),
    ],
)
def test_a_number_is_read_as_it_is_meant(text, number):
    assert only_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("[" * 100_000, "json"),
        ("-" * 100_000 + "1", "python"),
        pytest.param(
            *("x" + ".a" * 50_000, "python"),
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 parses it"),
        ),
        ("select 1\0;", "sql"),
        ("select '\ud800'", "sql"),
    ],
)
def test_code_that_overwhelms_a_parser_has_a_problem(code, language):
    assert syntax_problem(code, language)


@pytest.mark.parametrize("value", [None, AIMessage("hi"), [AIMessage("hi")]])
def test_tasks_take_texts_only(value):
    for made in (classify, summarize, translate):
        task = made(
            scripted("x"), **({"labels": ["x"]} if made is classify else {"to": "de"} if made is translate else {})
        )
        with pytest.raises(InvalidParameterError, match="takes a text"):
            task.invoke(value)


@pytest.mark.parametrize("given", [{"bullets": 0}, {"sentences": 0}, {"bullets": -3}, {"bullets": 500}])
def test_a_summary_of_an_impossible_size_is_a_typed_error(given):
    with pytest.raises(PersonaError, match="summarizer"):
        summarize(scripted("- x"), **given)
