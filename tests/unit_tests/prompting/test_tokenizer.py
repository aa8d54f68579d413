"""Ids equal the Hugging Face tokenizer's, text is data, and bad files are refused."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer

from langchain_qwen.errors import IncompleteCheckpointError, InvalidMessagesError, UnsupportedModelError
from langchain_qwen.prompting import Tokenizer
from langchain_qwen.prompting import tokenizer as tokenizer_module
from tests.tiny import ADDED, SPECIAL, tiny_tokenizer
from tests.unit_tests.prompting.conftest import VOCAB_SIZE, load

CONTROL = [*SPECIAL, *ADDED]
UNICODE = st.characters(exclude_categories=["Cs"])
# Where splitting and normalising are delicate: white space of all kinds, marks, contractions, Hangul parts, the merges.
DELICATE = st.sampled_from(
    [*" \n\r\t\x0b\x85\xa0\u180e\u200b\u2028\u3000'ſKﬁ", "'s", "'LL", "\u0301", "\u0323", "e", "the"]
)
TEXTS = st.one_of(st.text(UNICODE, max_size=40), st.lists(st.one_of(DELICATE, UNICODE), max_size=30).map("".join))


@pytest.fixture(scope="module")
def plain_reference() -> HuggingFaceTokenizer:
    """The Hugging Face tokenizer without added tokens: all text is data."""
    full = tiny_tokenizer()
    plain = HuggingFaceTokenizer(full.model)
    plain.normalizer, plain.pre_tokenizer, plain.decoder = full.normalizer, full.pre_tokenizer, full.decoder
    return plain


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
@example(
    text="a\u07fd\u0301"
)  # the mark in the middle is newer than the reference's tables, which do not join the others
def test_ids_and_text_equal_the_reference(tokenizer, plain_reference, text):
    ids = plain_reference.encode(text).ids
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == plain_reference.decode(ids)


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 263), max_size=12))
def test_decoding_any_ids_equals_the_reference(tokenizer, plain_reference, ids):
    assert tokenizer.decode(ids) == plain_reference.decode(ids)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.one_of(st.sampled_from(CONTROL), st.text("<|im_start>ab ", max_size=5)), max_size=8))
def test_text_never_becomes_a_control_token(tokenizer, parts):
    ids = tokenizer.encode("".join(parts))
    assert not set(ids) & set(tokenizer.control_tokens.values())
    assert tokenizer.decode(ids) == "".join(parts)


def test_control_tokens_are_all_added_tokens(tokenizer):
    assert dict(tokenizer.control_tokens) == {token: tiny_tokenizer().token_to_id(token) for token in CONTROL}
    for token, token_id in tokenizer.control_tokens.items():
        assert tokenizer.token_bytes(token_id) == token.encode()
        assert tokenizer.decode([token_id]) == token


def test_padding_rows_have_no_bytes(tokenizer):
    assert tokenizer.vocab_size == VOCAB_SIZE
    used = tiny_tokenizer().get_vocab_size()
    assert [tokenizer.token_bytes(token) for token in range(used, VOCAB_SIZE)] == [b""] * (VOCAB_SIZE - used)
    assert all(tokenizer.token_bytes(token) for token in range(used))


def test_a_lone_surrogate_is_refused_and_found(tokenizer):
    with pytest.raises(InvalidMessagesError, match=r"character 3 .* U\+D83D|character 3 .*\(U\+D83D\)"):
        tokenizer.encode("abc\ud83d")


@pytest.mark.parametrize("space", [" ", "\n \t", "\u3000"])
def test_long_white_space_goes_to_the_reference(tokenizer, plain_reference, monkeypatch, space):
    long = "a <|im_end|> " + space * (250_000 // len(space)) + "b"
    monkeypatch.setattr(tokenizer, "_encoding", None)  # tiktoken would panic on four times as much
    assert tokenizer.encode(long) == plain_reference.encode(long).ids


def test_millions_of_spaces_are_refused_where_both_tokenizers_panic(tokenizer):
    with pytest.raises(InvalidMessagesError, match="5,000,000 white space"):
        tokenizer.encode("a" + " " * 20_000_000 + "b")


def test_a_panic_of_the_tokenizer_is_an_error_of_ours(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_has_long_space", lambda *_: False)
    with pytest.raises(InvalidMessagesError, match="gave up"):
        tokenizer.encode(" " * 2_000_000 + "x")


def test_white_space_is_found_wherever_it_stands():
    for before in range(12):
        text = "a" * before + " " * 10 + "b" * 7
        assert tokenizer_module._has_long_space(text, step=5)
        assert not tokenizer_module._has_long_space("a " * 20, step=5)


def test_one_object_for_one_file(tiny_checkpoint, tmp_path):
    assert load(tiny_checkpoint) is load(tiny_checkpoint / ".." / tiny_checkpoint.name)
    file = tmp_path / "tokenizer.json"
    file.write_bytes((tiny_checkpoint / "tokenizer.json").read_bytes())
    first = load(tmp_path)
    os.utime(file, (1, 1))
    assert load(tmp_path) is not first


def test_threads_share_one_tokenizer_and_one_grammar_vocabulary(tiny_checkpoint, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((tiny_checkpoint / "tokenizer.json").read_bytes())
    barrier = threading.Barrier(8)

    def use(number: int) -> tuple[int, int, list[list[int]]]:
        barrier.wait()
        tokenizer = load(tmp_path)
        return id(tokenizer), id(tokenizer.llguidance), [tokenizer.encode(f"é {i} the" * 20) for i in range(50)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(use, range(8)))
    assert all(result == results[0] for result in results)


def test_llguidance_knows_vocabulary_and_stops(tokenizer, tiny_checkpoint, tmp_path):
    ends = {tokenizer.control_tokens["<|im_end|>"], tokenizer.control_tokens["<|endoftext|>"]}
    assert tokenizer.llguidance.vocab_size == VOCAB_SIZE
    assert set(tokenizer.llguidance.eos_tokens) == ends
    # Training leaves truncation in the file; it must not cut what grammars force.
    data = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    data["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    assert len(load(tmp_path).llguidance.tokenize_str("abcdefgh")) == 8


# -- files that cannot be used ----------------------------------------------------------------------------------------


def test_a_missing_or_damaged_file(tmp_path):
    with pytest.raises(IncompleteCheckpointError, match=r"no tokenizer\.json; download"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "mod', encoding="utf-8")
    with pytest.raises(IncompleteCheckpointError, match="download the checkpoint again"):
        load(tmp_path)


def _set(*path, value):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def _swap_merges(data):
    merges = data["model"]["merges"]
    merges[2], merges[3] = merges[3], merges[2]


def _drop_a_merge(data):
    del data["model"]["merges"][-1]


def _drop_a_byte(data):
    del data["model"]["vocab"]["Ġ"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("normalizer", value=None), "not a byte-level BPE"),
        (_set("normalizer", value={"type": "NFKC"}), "not a byte-level BPE"),
        (_set("model", "type", value="WordPiece"), "not a byte-level BPE"),
        (_set("model", "byte_fallback", value=True), "not a byte-level BPE"),
        (_set("model", "dropout", value=0.1), "not a byte-level BPE"),
        (_set("model", "end_of_word_suffix", value="</w>"), "not a byte-level BPE"),
        (_set("pre_tokenizer", value={"type": "ByteLevel", "add_prefix_space": False}), "not a byte-level BPE"),
        (_set("pre_tokenizer", "pretokenizers", 0, "behavior", value="Removed"), "not a byte-level BPE"),
        (_set("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", value=True), "not a byte-level BPE"),
        (_set("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex", value="(a"), "tiktoken cannot read"),
        (_set("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex", value=r"\p{L}+"), "does not match every text"),
        (_set("added_tokens", 3, "lstrip", value=True), "matched by more than its own text"),
        (_swap_merges, "out of the order"),
        (_drop_a_merge, "no merge makes"),
        (_drop_a_byte, "lacks some of the 256 bytes"),
    ],
)
def test_other_kinds_of_tokenizers_are_refused(tiny_checkpoint, tmp_path, change, message):
    data = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    change(data)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match=message):
        load(tmp_path)


def test_a_tokenizer_larger_than_the_model_is_refused(tiny_checkpoint: Path):
    with pytest.raises(UnsupportedModelError, match="different checkpoints"):
        Tokenizer.from_folder(tiny_checkpoint, 260, [1])


def test_merges_written_as_strings_are_read(tiny_checkpoint, tmp_path, tokenizer):
    data = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    assert load(tmp_path).encode("the other one") == tokenizer.encode("the other one")


def test_the_split_pattern_is_the_files_own(tiny_checkpoint, tmp_path, tokenizer):
    data = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"[\s\S]"
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    assert len(load(tmp_path).encode("the the")) == 7
    assert len(tokenizer.encode("the the")) == 2
