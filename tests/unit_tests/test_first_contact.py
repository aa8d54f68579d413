"""What somebody sees who comes from another package, or looks at an object."""

from __future__ import annotations

from datetime import date

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidParameterError, ModelNotFoundError, UnknownParameterError
from langchain_qwen.grounding import Citation, CutoffGuard, GroundedAnswer, GroundedAnswerer
from langchain_qwen.history import ConversationStats, HistoryTrimmer
from langchain_qwen.other_names import PARAMETERS
from langchain_qwen.parameters import accepted_names
from langchain_qwen.personas import builtin
from langchain_qwen.safety import InputGuard, SafetyParser


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("num_predict", "max_tokens"),
        ("num_ctx", "kv_cache_bytes"),
        ("format", "response_format"),
        ("keep_alive", r"close\(\)"),
        ("n_gpu_layers", "device"),
        ("model_path", "write model"),
    ],
)
def test_a_name_of_another_package_leads_to_ours(name, ours):
    with pytest.raises(UnknownParameterError, match=f"no parameter '{name}'; .*{ours}"):
        ChatQwen(model="coder-0.5b", **{name: 1})
    with pytest.raises(UnknownParameterError, match=ours):
        ChatQwen(model="coder-0.5b").invoke("hi", **{name: 1})


def test_a_name_that_means_the_same_is_accepted():
    assert ChatQwen(model="coder-0.5b", max_completion_tokens=7).max_tokens == 7
    assert not PARAMETERS.keys() & accepted_names(ChatQwen)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("qwen2.5:1.5b", 'model="Qwen/Qwen2.5-1.5B-Instruct"'),
        ("qwen2.5-coder:1.5b", 'model="coder-1.5b"'),
        ("qwen2.5-coder:0.5b-instruct-q4_K_M", '"coder-0.5b"'),
        ("qwen2.5-coder:7b", '"Qwen/Qwen2.5-Coder-7B-Instruct"'),
        ("Qwen2.5-0.5B-Instruct", "such as Qwen/Qwen2.5-0.5B-Instruct"),
        ("gpt-4", "such as Qwen/Qwen2.5-1.5B-Instruct"),
    ],
)
def test_a_models_name_of_another_package_leads_to_ours(name, ours):
    with pytest.raises(ModelNotFoundError) as caught:
        ChatQwen(model=name).invoke("hi")
    assert ours in str(caught.value)


def test_reprs_say_what_it_is(tiny_checkpoint):
    model = ChatQwen(model=str(tiny_checkpoint), temperature=0.5, max_tokens=100)
    shown = f"ChatQwen(model='{tiny_checkpoint}', precision='auto', device='auto', temperature=0.5, max_tokens=100)"
    assert repr(model) == shown
    assert "secret" not in repr(ChatQwen(model="coder-0.5b", api_key="secret"))
    parser = SafetyParser("balanced")
    assert repr(parser).startswith("SafetyParser('balanced': ")
    assert repr(InputGuard(parser)) == f"InputGuard({parser!r})"
    assert repr(parser.guard(model)) == f"GuardedChatModel(model={shown}, parser={parser!r})"
    assert repr(builtin("concise") | model).endswith(f"model={shown})")
    assert repr(HistoryTrimmer(model)) == (
        "HistoryTrimmer(window=2048, reserve=100, steps=('clear', 'drop'), trims above 1753 tokens down to 974)"
    )
    assert repr(ConversationStats()).startswith("ConversationStats(0 calls")
    assert repr(CutoffGuard(model)) == f"CutoffGuard({shown}, knowledge_cutoff=2023-12-31)"


def test_grounded_answers_from_the_wrong_things(tiny_checkpoint):
    model = ChatQwen(model=str(tiny_checkpoint))
    with pytest.raises(InvalidParameterError, match="these are ChatQwen and list"):
        GroundedAnswerer(model, ["text"])
    with pytest.raises(InvalidParameterError, match=r"as_retriever\(\)"):
        GroundedAnswerer(InMemoryVectorStore(embedding=None), model)


@pytest.mark.parametrize(
    ("metadata", "page"),
    [
        ({"page": 0, "page_label": "iv"}, "page iv"),
        ({"page": 6, "total_pages": 9}, "page 7"),
        ({"page_number": 3}, "page 3"),
        ({}, None),
    ],
)
def test_citations_of_pdfs_name_the_page(metadata, page):
    document = Document("The bridge was\nopened in 1874.", metadata={"source": "b.pdf", **metadata})
    citation = Citation(
        number=1, answer_start=0, answer_end=8, document_id="b", source_start=0, source_end=31,
        quote=document.page_content, metadata=document.metadata,
    )  # fmt: skip
    answer = GroundedAnswer(question="When?", text="In 1874. [1]", as_of=date(2026, 1, 1), citations=(citation,))
    for shown in (answer.markdown(), answer._repr_html_()):
        assert "The bridge was opened in 1874." in shown
        assert f", {page or 'characters 0 to 31'}" in shown
        assert ("page" in shown) is ("characters" not in shown) is (page is not None)
