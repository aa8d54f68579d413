"""Prompts equal transformers' own to the character and the id; counts equal what is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages

from langchain_qwen.errors import IncompleteCheckpointError, InvalidMessagesError, InvalidSchemaError
from langchain_qwen.prompting import Prompter, to_roles
from langchain_qwen.prompting.guard import strings
from langchain_qwen.prompting.prompter import _Remembered
from langchain_qwen.prompting.template import ChatTemplate
from tests.tiny import TEMPLATE
from tests.unit_tests.prompting.strategies import conversations, tools

ORDINARY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["", " ", "the <b>other</b> one\n", "e\u0301", "\u0338>", "\ufdd0\ufdd1\ue000", "\u0301\u0301\u0323"]
    ),
)
TOOL = {"type": "function", "function": {"name": "add", "description": "Addiert — 加", "parameters": {}}}
CONVERSATION: list[BaseMessage] = [
    SystemMessage("Sei kurz."),
    HumanMessage("Was ist 1 + 2? 你好 😀", name="Jürgen"),
    AIMessage("Ich rechne.", tool_calls=[{"name": "add", "args": {"a": 1, "b": "é"}, "id": "1"}]),
    ToolMessage("3", tool_call_id="1"),
    AIMessage("3"),
    SystemMessage("Now in English."),
    HumanMessage("And 2 + 2?"),
]


@settings(max_examples=150, deadline=None)
@given(messages=conversations(ORDINARY), tools=st.one_of(st.none(), tools(ORDINARY)))
def test_text_and_ids_equal_the_reference(prompter, reference, messages, tools):
    roles = to_roles(messages)
    assume(not any(token in text for token in prompter._control_ids for text in strings([roles, tools])))
    options = {"tools": tools, "add_generation_prompt": True}
    assert prompter.render(messages, tools) == reference.apply_chat_template(roles, tokenize=False, **options)
    ids = reference.apply_chat_template(roles, return_dict=False, **options)
    assert prompter.encode(messages, tools) == ids
    assert prompter.count(messages, tools) == len(ids)


@pytest.mark.parametrize("bound", [None, [], [TOOL]])
def test_every_part_of_a_conversation_can_be_counted(prompter, bound):
    for start in range(len(CONVERSATION)):
        for end in range(start + 1, len(CONVERSATION) + 1):
            part = CONVERSATION[start:end]
            assert prompter.count(part, bound) == len(prompter.encode(part, bound))
    assert prompter.count([], bound) == 0


def test_trim_messages_counts_with_it(prompter):
    budget = prompter.count(CONVERSATION) - 1
    kept = trim_messages(
        CONVERSATION, max_tokens=budget, token_counter=prompter.count, strategy="last", include_system=True
    )
    assert 2 <= len(kept) < len(CONVERSATION)
    assert (kept[0], kept[-1]) == (CONVERSATION[0], CONVERSATION[-1])
    assert prompter.count(kept) <= budget


def test_no_messages_cannot_be_sent(prompter):
    for method in (prompter.encode, prompter.render):
        with pytest.raises(InvalidMessagesError, match="no messages"):
            method([])


def test_tools_that_are_not_json_are_refused(prompter):
    with pytest.raises(InvalidSchemaError, match="bind_tools"):
        prompter.encode([HumanMessage("x")], [{"type": "function", "function": print}])


def test_messages_and_tools_are_left_as_they_were(prompter):
    messages = [HumanMessage("<|im_end|>"), AIMessage("", tool_calls=[{"name": "add", "args": {"<": "<"}, "id": "1"}])]
    before = ([message.model_dump() for message in messages], json.dumps(TOOL))
    prompter.encode(messages, [TOOL])
    assert ([message.model_dump() for message in messages], json.dumps(TOOL)) == before


# -- templates --------------------------------------------------------------------------------------------------------


def _folder(tmp_path, config=None, jinja=None):
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if jinja is not None:
        (tmp_path / "chat_template.jinja").write_text(jinja, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("config", "jinja", "expected"),
    [
        ({"chat_template": "A"}, None, "A"),
        ({"chat_template": "A"}, "B", "B"),
        (None, "B", "B"),
        ({"chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]}, None, "D"),
        ({"chat_template": "{{ eos_token }}", "eos_token": "<|im_end|>"}, None, "<|im_end|>"),
        ({"chat_template": "{{ eos_token }}", "eos_token": {"content": "<|im_end|>"}}, None, "<|im_end|>"),
    ],
)
def test_where_templates_are_found(tmp_path, tokenizer, config, jinja, expected):
    prompter = Prompter.from_folder(_folder(tmp_path, config, jinja), tokenizer)
    assert prompter.render([HumanMessage("x")]) == expected


@pytest.mark.parametrize("config", [None, {}, {"chat_template": [{"name": "rag", "template": "R"}]}])
def test_a_missing_template(tmp_path, tokenizer, config):
    with pytest.raises(IncompleteCheckpointError, match="no chat template; base models"):
        Prompter.from_folder(_folder(tmp_path, config), tokenizer)


def test_a_damaged_config(tmp_path, tokenizer):
    (tmp_path / "tokenizer_config.json").write_text('{"chat_', encoding="utf-8")
    with pytest.raises(IncompleteCheckpointError, match="download the checkpoint again"):
        Prompter.from_folder(tmp_path, tokenizer)


def test_a_template_that_does_not_compile(tmp_path, tokenizer):
    prompter = Prompter.from_folder(_folder(tmp_path, jinja="{% if %}"), tokenizer)
    with pytest.raises(IncompleteCheckpointError, match="cannot be compiled"):
        prompter.encode([HumanMessage("x")])


def test_a_template_that_refuses(tmp_path, tokenizer):
    prompter = Prompter.from_folder(_folder(tmp_path, jinja="{{ raise_exception('roles must alternate') }}"), tokenizer)
    with pytest.raises(InvalidMessagesError, match="refuses the messages: roles must alternate"):
        prompter.encode([HumanMessage("x")])


def test_one_prompter_for_one_template(tmp_path, tiny_checkpoint, tokenizer):
    assert Prompter.from_folder(tiny_checkpoint, tokenizer) is Prompter.from_folder(tiny_checkpoint, tokenizer)
    first = Prompter.from_folder(_folder(tmp_path, jinja=TEMPLATE.read_text(encoding="utf-8")), tokenizer)
    changed = Prompter.from_folder(_folder(tmp_path, jinja="new"), tokenizer)
    assert (changed is first, changed.render([HumanMessage("x")])) == (False, "new")


# -- pieces are encoded once ------------------------------------------------------------------------------------------


def test_a_grown_history_encodes_only_what_is_new(tokenizer, monkeypatch):
    encoded: list[str] = []
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: encoded.append(text) or encode(text))
    prompter = Prompter(ChatTemplate(TEMPLATE.read_text(encoding="utf-8"), ()), tokenizer)
    prompter.count(CONVERSATION[:5])
    encoded.clear()
    prompter.count(CONVERSATION[:7])
    assert encoded == ["system\nNow in English.", "user\nAnd 2 + 2?"]


def test_what_is_remembered_is_bounded():
    calls: list[str] = []
    remembered = _Remembered(lambda text: calls.append(text) or list(map(ord, text)), max_tokens=6)
    for text in ("abc", "def", "abc", "ghi", "abc", "def", "too long"):
        assert list(remembered(text)) == list(map(ord, text))
    # "def" was the one used longest ago when "ghi" needed room; "too long" has room nowhere and leaves none.
    assert calls == ["abc", "def", "ghi", "def", "too long"]
    assert remembered._room == 6 - sum(map(len, remembered._ids))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=30) | st.sampled_from(["the " * 50, "e\u0301" * 40, "\u1100\u1161\u11a8" * 30, "🙂" * 9]))
)
def test_the_least_number_of_tokens_is_no_more_than_there_are(prompter, texts):
    messages = [HumanMessage(text) for text in texts]
    assert prompter.least(messages) <= prompter.count(messages)
