"""Which language a text is in, and which one an answer should be in."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas import Persona, WeakLanguageWarning
from langchain_qwen.personas.checking import holds
from langchain_qwen.personas.composing import answer_language, warn_if_weak, without_persona
from langchain_qwen.personas.detection import _NAMED, BY_SCRIPT, detect, main_script
from langchain_qwen.personas.languages import language_of, languages, question_language, requested, wanted_language
from tests.unit_tests.output.answers import allows

ANYONE = Persona(name="anyone", instructions="You are a helpful assistant.")
NAMED = ("zh", "en", "fr", "es", "pt", "de", "it", "ru", "ja", "ko", "vi", "th", "ar")


class TestTable:
    def test_the_named_languages(self):
        assert {code for code, language in languages().items() if language.named} == set(NAMED)

    @pytest.mark.parametrize("code", languages())
    def test_each_asks_for_itself_in_itself(self, code):
        language = languages()[code]
        for said in (language.answer, language.unanswered, language.unknown, language.unsure):
            assert detect(said).code == code, said
        assert "2023-12" in language.unknown.format(date="2023-12")
        assert code in BY_SCRIPT[language.script]
        assert main_script(language.native)[0] in (language.script, "han")  # 日本語 has no kana
        for phrase in language.asked:
            assert requested(f"x? {phrase}!") == code

    def test_scripts_have_no_other_languages(self):
        assert sorted(code for codes in BY_SCRIPT.values() for code in codes) == sorted(languages())

    def test_the_likelier_ones_are_those_of_the_model_card(self):
        told_apart = {code for codes in BY_SCRIPT.values() if len(codes) > 1 for code in codes}
        assert {code for code in told_apart if languages()[code].named} == _NAMED

    @pytest.mark.parametrize(("name", "code"), [("de", "de"), ("DE", "de"), ("zh_TW", "zh"), ("français", "fr")])
    def test_names(self, name, code):
        assert language_of(name).code == code

    def test_unknown(self):
        with pytest.raises(PersonaError, match="'elvish' is not known"):
            language_of("elvish")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What is the capital of Peru?", "en"),
        ("Quelle est la capitale du Pérou ?", "fr"),
        ("秘鲁的首都是哪里?", "zh"),
        ("ペルーの首都はどこですか。", "ja"),
        ("페루의 수도는 어디입니까?", "ko"),
        ("เมืองหลวงของเปรูคืออะไร", "th"),
        ("ما هي عاصمة بيرو؟", "ar"),
        ("Какая столица у Перу?", "ru"),
        ("Яка столиця Перу? Це питання є важливим.", "uk"),
        ("پایتخت پرو کجاست؟ لطفاً بگویید که چیست.", "fa"),
        ("¿Qué hace `import torch as very_long_english_name` aquí, por favor?", "es"),
        ("Was macht das hier?\n```\nfor line in the_file: print(line)\n```", "de"),
        ("日本語のGPUプログラミング", "ja"),
        ("Penguins, cats and salmon.", "en"),  # Catalan, were all languages equally likely
        ("Tell me a joke", "en"),
        ("Guten Morgen", "de"),
        ("Gràcies, bon dia a tothom", "ca"),
        ("12 + 30 = ?", None),
        ("", None),
        ("!!!", None),
        ("https://example.org/what-is-the-capital-of-peru", None),
    ],
)
def test_detect(text, code):
    assert detect(text).code == code


@given(st.text())
@settings(deadline=None, max_examples=60)
def test_detect_takes_any_text(text):
    found = detect(text)
    assert 0 <= found.confidence <= 1 + 1e-6
    assert found.code is None or found.code in languages()


class TestWhatIsAsked:
    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("Write a poem about trees in French.", "fr"),
            ("Make sure your entire response is in Hindi, no other language is allowed.", "hi"),
            ("How do you say bread in German?", None),
            ("Who won the war in French Guiana?", None),
            ("Translate into Greek: good morning", "el"),
            ("Wer war das? Antworte auf Englisch.", "en"),
            ("用英文回答:谁是总统?", "en"),
            ("First answer in German, then in short, and at last write it in Italian.", "it"),
        ],
    )
    def test_requests(self, text, code):
        assert requested(text) == code

    @pytest.mark.parametrize(
        "text",
        [
            "The mill was built in 1742 by a rich woman from the north.\n\nWann wurde die Mühle gebaut?",
            "Context: The mill was built in 1742 by a rich woman.\nQuestion: Wann wurde die Mühle gebaut?",
            "Wann wurde die Mühle gebaut?\n\n" + "The mill was built in 1742 by a rich woman from the north. " * 9,
            "<document>The mill was built.</document>\nWann wurde die Mühle gebaut, und von wem?",
        ],
    )
    def test_quoted_text_does_not_decide(self, text):
        assert question_language(text) == "de"

    def test_the_latest_message_that_can_tell_decides(self):
        chat = [HumanMessage("Wann wurde die Mühle gebaut?"), AIMessage("In 1742."), HumanMessage("1743?")]
        assert wanted_language(chat).code == "de"
        assert wanted_language([*chat, HumanMessage("Are you really sure about it?")]).code == "en"
        assert wanted_language([HumanMessage("42")]) is None


class TestRule:
    def test_no_word_where_all_is_in_one_language(self):
        assert [m.type for m in ANYONE.messages("Who built the mill?")] == ["system", "human"]

    @pytest.mark.parametrize(
        "chat",
        [
            [HumanMessage("Wer hat die Mühle gebaut?")],
            [HumanMessage("The mill was built by a rich woman.\n\nWer hat die Mühle gebaut?")],
            [SystemMessage("Be brief."), HumanMessage("Who built the mill? Answer in German.")],
        ],
    )
    def test_a_last_word_where_they_differ(self, chat):
        last = ANYONE.messages(chat)[-1]
        assert (last.type, last.text) == ("human", f"{chat[-1].text}\n\n{languages()['de'].answer}")

    def test_after_results_of_tools_it_is_said_again(self):
        call = {"name": "look", "args": {}, "id": "1"}
        chat = [
            HumanMessage([{"type": "text", "text": "Wer hat die Mühle gebaut?"}], id="7"),
            AIMessage("", tool_calls=[call]),
            ToolMessage("Anna Keller built it", tool_call_id="1"),
        ]
        worn = ANYONE.messages(chat)
        assert [m.type for m in worn] == ["system", "human", "ai", "tool", "system"]
        assert worn[1].text.endswith(languages()["de"].answer)
        assert worn[-1].text == languages()["de"].answer
        assert without_persona(worn) == chat

    def test_a_forced_language_is_always_asked_for(self):
        assert ANYONE.replace(language="en").messages("Hello")[-1].text == f"Hello\n\n{languages()['en'].answer}"

    def test_no_rule(self):
        assert len(ANYONE.replace(language=None).messages("Wer hat die Mühle gebaut?")) == 2

    def test_a_language_of_before_does_not_stick(self):
        before = ANYONE.replace(language="fr").messages("Who built the mill?")
        assert answer_language(ANYONE, before).code == "en"


def test_holds():
    assert holds("Das ist eine alte Mühle.", "de")
    assert not holds("This is an old mill by the river.", "de")
    assert holds("1742", "de")


def test_weak_languages_warn():
    with pytest.warns(WeakLanguageWarning, match="Swahili"):
        warn_if_weak(languages()["sw"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_weak(languages()["fr"])
        warn_if_weak(None)


@pytest.mark.parametrize("code", sorted(languages()))
def test_an_answer_may_be_held_to_its_letters(code):
    language = languages()[code]
    assert allows(language.grammar, f"1. “{language.answer}”\nPython 3, {language.native}.")
    assert not allows(language.grammar, "Я не знаю." if language.script != "cyrillic" else "I do not know.")
    assert not allows(language.grammar, f"{language.native} {'Ελλάδα' if language.script != 'greek' else 'Україна'}")


def test_marks_that_scripts_share_are_letters_of_each():
    assert allows(languages()["ja"].grammar, "データー々")
    assert allows(languages()["ar"].grammar, "مرحبـــا")
