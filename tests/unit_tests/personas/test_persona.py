"""Definitions of personas, and how they are put in front of a conversation."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from pydantic import ValidationError

from langchain_qwen.errors import InvalidMessagesError, PersonaError
from langchain_qwen.personas import Example, LabelsForm, Persona, builtin, builtins
from langchain_qwen.personas.composing import without_persona
from langchain_qwen.personas.gallery import gallery

CAT = Persona(name="cat", instructions="You are a cat.", language=None)
DOG = Persona(name="dog", instructions="You are a dog.", examples=[Example(user="Hi", assistant="Woof")], language=None)


def plain(messages):
    return [(message.type, message.text) for message in messages]


class TestDefinition:
    def test_it_cannot_be_changed(self):
        with pytest.raises(ValidationError, match="frozen"):
            CAT.tone = "grumpy"

    def test_replace_makes_another(self):
        grumpy = CAT.replace(tone="grumpy")
        assert "Tone: grumpy." in grumpy.system_text()
        assert CAT.tone is None

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({}, "instructions: Field required"),
            ({"instructions": ""}, "instructions"),
            ({"instructions": "x", "colour": "red"}, "colour: Extra inputs"),
            ({"instructions": "You serve {king}."}, r"\{king\} is no declared variable"),
            ({"instructions": "x", "variables": {"king": "Arthur"}}, "'king' is not used"),
            ({"instructions": "x", "language": "klingon"}, "language 'klingon' is not known"),
            ({"instructions": "x", "output": {"kind": "poem"}}, "output"),
            ({"instructions": "x", "output": {"kind": "sentences", "at_most": 0}}, "at_most"),
            ({"instructions": "x", "output": {"kind": "bullets", "at_least": 3, "at_most": 2}}, "at_least=3"),
            ({"instructions": "x", "output": {"kind": "labels", "labels": ["a", "a"]}}, "distinct"),
            ({"instructions": "x", "output": {"kind": "table", "columns": ["a|b"]}}, "column 'a|b'"),
            ({"instructions": "x", "output": {"kind": "json", "json_schema": {"type": "sth"}}}, "sth"),
        ],
    )
    def test_mistakes_are_named(self, values, message):
        with pytest.raises(PersonaError, match=message):
            Persona(name="x", **values)

    def test_a_language_may_be_named(self):
        assert CAT.replace(language="German").language == "de"
        assert CAT.replace(language="pt-BR").language == "pt"
        assert CAT.replace(language="العربية").language == "ar"

    def test_everything_is_rendered(self):
        persona = Persona(
            name="guide",
            instructions='You show people {city}. Write places as {{place}}, and JSON as {"a": 1}.',
            tone="merry",
            audience="visitors of {city}",
            refusals=["talk about {rival}"],
            variables={"city": "Rome", "rival": None},
            output=LabelsForm(labels=("left", "right")),
        )
        assert persona.system_text(rival="Milan") == (
            'You show people Rome. Write places as {place}, and JSON as {"a": 1}.\n\n'
            "Tone: merry.\n\nYou write for visitors of Rome.\n\nPolitely decline to:\n- talk about Milan\n\n"
            "Answer with exactly one of these labels and nothing else: left, right."
        )

    def test_variables(self):
        persona = Persona(name="p", instructions="{a} {b}", variables={"a": None, "b": "2"})
        with pytest.raises(PersonaError, match="needs a value for a"):
            persona.system_text()
        assert persona.partial(a="1").system_text() == "1 2"
        assert persona.partial(a="{b}").system_text() == "{b} 2"
        assert persona.partial(a="1").partial(b="3").system_text() == "1 3"
        with pytest.raises(PersonaError, match="has no variable 'c'"):
            persona.partial(c="1")
        assert persona.invoke({"input": "x", "a": "9"}).messages[0].text == "9 2"

    def test_round_trip(self):
        for persona in builtins().values():
            assert Persona(**persona.model_dump()) == persona


class TestComposing:
    @pytest.mark.parametrize(
        "value",
        [
            "Hello",
            [HumanMessage("Hello")],
            [("human", "Hello")],
            [{"role": "user", "content": "Hello"}],
            HumanMessage("Hello"),
            ChatPromptTemplate.from_messages([("human", "Hello")]).invoke({}),
            {"input": "Hello"},
            {"messages": [HumanMessage("Hello")]},
        ],
    )
    def test_any_input(self, value):
        assert plain(CAT.invoke(value).messages) == [("system", "You are a cat."), ("human", "Hello")]

    @pytest.mark.parametrize("value", [3, {}, {"question": "Hello"}, {"input": "a", "messages": []}])
    def test_other_input(self, value):
        with pytest.raises(InvalidMessagesError):
            CAT.invoke(value)

    def test_examples_are_turns(self):
        assert plain(DOG.messages("Hello")) == [
            ("system", "You are a dog."),
            ("human", "Hi"),
            ("ai", "Woof"),
            ("human", "Hello"),
        ]

    def test_a_system_message_is_added(self):
        messages = CAT.messages([SystemMessage("It is noon."), HumanMessage("Hello"), SystemMessage("Be quick.")])
        assert plain(messages) == [
            ("system", "You are a cat.\n\nIt is noon."),
            ("human", "Hello"),
            ("system", "Be quick."),
        ]

    def test_swapped_in_the_middle_of_a_chat(self):
        chat = [SystemMessage("It is noon."), HumanMessage("Hello"), AIMessage("Wuff"), HumanMessage("And now?")]
        assert plain(CAT.messages(DOG.messages(chat))) == plain(CAT.messages(chat))
        assert plain(DOG.messages(DOG.messages(chat))) == plain(DOG.messages(chat))

    @given(
        st.lists(
            st.one_of(
                st.builds(HumanMessage, st.text(min_size=1)),
                st.builds(AIMessage, st.text(min_size=1)),
                st.builds(SystemMessage, st.text(min_size=1)),
            ),
            min_size=1,
        ),
        st.lists(st.sampled_from([CAT, DOG, builtin("extractor"), CAT.replace(language="fr")]), min_size=1, max_size=4),
    )
    @settings(deadline=None, max_examples=40)
    def test_taken_off_again(self, chat, personas):
        worn = chat
        for persona in personas:
            worn = persona.messages(worn)
        assert plain(without_persona(worn)) == plain(chat)

    def test_the_beginning_stays_the_same(self):
        first = builtin("extractor").messages("One")
        second = builtin("extractor").messages("Zwei Wörter")
        assert plain(first[:-1]) == plain(second[: len(first) - 1])

    def test_in_a_plain_chain(self):
        chain = ChatPromptTemplate.from_messages([("human", "{word}!")]) | CAT
        assert plain(chain.invoke({"word": "Jump"}).messages) == [("system", "You are a cat."), ("human", "Jump!")]


class TestOverrides:
    @pytest.mark.parametrize(
        ("other", "text"),
        [(DOG, "You are a dog."), ({"instructions": "You purr."}, "You purr."), ("concise", "You answer questions")],
    )
    def test_for_one_call(self, other, text):
        config = {"configurable": {"persona": other}}
        assert CAT.invoke("Hello", config).messages[0].text.startswith(text)

    def test_bound_to_a_chain(self):
        bound = CAT.with_config(configurable={"persona": DOG})
        assert bound.invoke("Hello").messages[0].text == "You are a dog."

    @pytest.mark.parametrize("other", [3, "concize", {"instruction": "x"}])
    def test_mistakes(self, other):
        with pytest.raises(PersonaError):
            CAT.invoke("Hello", {"configurable": {"persona": other}})


def test_the_gallery_is_up_to_date():
    page = Path(__file__).parents[3] / "docs" / "personas.md"
    assert page.read_text(encoding="utf-8") == gallery(), "python -m langchain_qwen.personas.gallery > docs/personas.md"


def test_builtins_have_what_the_gallery_shows():
    assert {"assistant", "concise", "tutor", "code_reviewer", "translator", "summarizer", "extractor", "analyst"} < set(
        builtins()
    )
    for name, persona in builtins().items():
        assert persona.name == name
        assert persona.description.endswith(".")
        assert persona.system_text(**{key: "x" for key, value in persona.variables.items() if value is None})
    with pytest.raises(PersonaError, match="did you mean 'concise'"):
        builtin("consise")
