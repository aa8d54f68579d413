"""The tiny checkpoint's tokenizer and prompter, and transformers' own to compare with."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from langchain_qwen.prompting import Prompter, Tokenizer
from tests.tiny import SPECIAL, tiny_tokenizer

VOCAB_SIZE = 320


def load(folder: Path) -> Tokenizer:
    stop_ids = [tiny_tokenizer().token_to_id(token) for token in (SPECIAL[2], SPECIAL[0])]
    return Tokenizer.from_folder(folder, VOCAB_SIZE, stop_ids)


@pytest.fixture(scope="session")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return load(tiny_checkpoint)


@pytest.fixture(scope="session")
def prompter(tiny_checkpoint: Path, tokenizer: Tokenizer) -> Prompter:
    return Prompter.from_folder(tiny_checkpoint, tokenizer)


@pytest.fixture(scope="session")
def reference(tiny_checkpoint: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_checkpoint)
