"""Text to ids and back with tiktoken, equal to the checkpoint's own Hugging Face tokenizer.

tiktoken is five to ten times faster. The Hugging Face tokenizer is the reference, and what the tests compare with.
Three things were looked into where the two could part:

- Normalisation. The reference normalises with the tables of its Rust crate, which know older Unicode than Python's
  `unicodedata` (of random pairs of a character and a mark, about one in a hundred comes out different). So its own
  normalizer object is used here.
- The two regular expression engines. None: every code point alone, between letters, between spaces, doubled around a
  line break and after an apostrophe gives the same ids, and so do random strings.
- Very long runs of white space. tiktoken panics when its backtracking stack passes a million entries, one for each
  character of the run. Texts with such runs go to the reference, which panics itself at ten million: from five million
  on they are refused. Other long runs (a million letters, digits, Chinese characters, marks) take tiktoken under a
  second and need no care.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tiktoken
from llguidance import LLTokenizer
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import normalizers

from langchain_qwen.errors import IncompleteCheckpointError, InvalidMessagesError, UnsupportedModelError, panics_as
from langchain_qwen.forks import renewed_lock
from langchain_qwen.prompting.vocabulary import Vocabulary, read_vocabulary

_loading = renewed_lock(sys.modules[__name__], "_loading")


class Tokenizer:
    """Byte-level BPE of the Qwen2 family. Safe to use from many threads.

    Attributes:
        vocab_size: Rows of the model's vocabulary; the last ones are padding without a token.
        control_tokens: All added tokens with their ids, `<|im_start|>` and `<tool_call>` among them. The reference
            matches them anywhere in a text; here only the chat template can write one.
    """

    def __init__(self, file: Path, vocab_size: int, stop_ids: Iterable[int]):
        vocabulary = read_vocabulary(file)
        self.vocab_size = vocab_size
        self.control_tokens: Mapping[str, int] = vocabulary.control_tokens
        self._file = file
        self._stop_ids = list(stop_ids)
        bytes_of = {token: text.encode() for text, token in vocabulary.control_tokens.items()}
        bytes_of |= {token: raw for raw, token in vocabulary.ranks.items()}
        last = max(bytes_of)
        if last >= vocab_size:
            raise UnsupportedModelError(
                f"{file} has the token {last}, but the model's vocabulary ends at {vocab_size - 1}; "
                "the files belong to different checkpoints"
            )
        self._token_bytes = [bytes_of.get(token, b"") for token in range(last + 1)]  # a quarter of the dict's memory
        self._normalizer = normalizers.NFC()
        self._encoding = _encoding(file, vocabulary)
        self._lock = renewed_lock(self, "_lock")
        self._llguidance: LLTokenizer | None = None
        self._reference: HuggingFaceTokenizer | None = None

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int, stop_ids: Iterable[int]) -> Tokenizer:
        """The tokenizer of a checkpoint folder; one object for all who ask for the same file.

        Args:
            folder: Holds tokenizer.json.
            vocab_size: Rows of the model's vocabulary.
            stop_ids: Tokens that end an answer; grammars allow them where an answer may end.

        Raises:
            IncompleteCheckpointError: If tokenizer.json is missing or damaged.
            UnsupportedModelError: If it is not of the Qwen2 family, or of another checkpoint.
        """
        file = (folder / "tokenizer.json").resolve()
        try:
            state = file.stat()
        except OSError as error:
            raise IncompleteCheckpointError(f"{folder} has no tokenizer.json; download the checkpoint again") from error
        with _loading:  # the cache alone would let two threads build the same tokenizer
            return _load(file, state.st_mtime_ns, state.st_size, vocab_size, tuple(sorted(stop_ids)))

    def encode(self, text: str) -> list[int]:
        """Ids of a text as data: what looks like a control token is spelled in ordinary tokens.

        Raises:
            InvalidMessagesError: For lone surrogates, which no UTF-8 text can hold, and for millions of white space
                characters in a row.
        """
        if not text.isascii():
            try:
                text = self._normalizer.normalize_str(text)
            except UnicodeEncodeError as error:
                raise InvalidMessagesError(
                    f"character {error.start} of the text is a lone surrogate (U+{ord(text[error.start]):04X}), which "
                    "is no Unicode text; decode the source as UTF-8 or UTF-16, or take it out"
                ) from error
        with panics_as(InvalidMessagesError, "the tokenizer gave up on a text; take very long runs out of it"):
            if not _has_long_space(text):
                return self._encoding.encode_ordinary(text)
            if _has_long_space(text, 5_000_000):
                raise InvalidMessagesError(
                    "the text has more than 5,000,000 white space characters in a row, which the tokenizer cannot "
                    "take; shorten the run"
                )
            ids: list[int] = self._plain_reference().encode(text, add_special_tokens=False).ids
            return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, control tokens included; U+FFFD stands for bytes that are not whole characters."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Bytes of a token, of a control token its literal text; none for the padding rows of the vocabulary."""
        return self._token_bytes[token] if 0 <= token < len(self._token_bytes) else b""

    @property
    def turn_starts(self) -> frozenset[int]:
        """The token that begins another turn, which is the end of this one for a model that writes it."""
        return frozenset(token for text, token in self.control_tokens.items() if text == "<|im_start|>")

    @property
    def thought_marks(self) -> tuple[int, int] | None:
        """The tokens around a reasoning model's thoughts; None for a model without them."""
        begin, end = (self.control_tokens.get(text) for text in ("<think>", "</think>"))
        return None if begin is None or end is None else (begin, end)

    def closing_thought(self, prompt_ids: Sequence[int]) -> list[int]:
        """What ends the reasoning within which a prompt ends, as some templates let it; empty for other prompts."""
        marks = self.thought_marks
        if marks is None or next((token for token in reversed(prompt_ids) if token in marks), None) != marks[0]:
            return []
        return [marks[1], *self.encode("\n\n")]

    @property
    def llguidance(self) -> LLTokenizer:
        """The vocabulary as llguidance reads it; made at first use, since that takes one to two seconds."""
        with self._lock:
            if self._llguidance is None:
                full = HuggingFaceTokenizer.from_file(str(self._file))
                full.no_padding()  # training leaves such settings in the file
                full.no_truncation()
                self._llguidance = LLTokenizer(full.to_str(), n_vocab=self.vocab_size, eos_token=self._stop_ids)
            return self._llguidance

    def _plain_reference(self) -> HuggingFaceTokenizer:
        """The reference without its added tokens, so that it takes all text as data."""
        with self._lock:
            if self._reference is None:
                full = HuggingFaceTokenizer.from_file(str(self._file))
                self._reference = HuggingFaceTokenizer(full.model)
                self._reference.normalizer = full.normalizer
                self._reference.pre_tokenizer = full.pre_tokenizer
            return self._reference


def _encoding(file: Path, vocabulary: Vocabulary) -> tiktoken.Encoding:
    pattern = vocabulary.split_pattern
    try:
        encoding = tiktoken.Encoding("qwen2", pat_str=pattern, mergeable_ranks=vocabulary.ranks, special_tokens={})
    except ValueError as error:
        raise UnsupportedModelError(f"{file} has a split pattern that tiktoken cannot read: {error}") from error
    # The reference keeps what the pattern does not match; tiktoken would drop it.
    probe = "".join(map(chr, range(128))) + "é\u0301中😀\u3000"
    if encoding.decode(encoding.encode_ordinary(probe)) != probe:
        raise UnsupportedModelError(f"{file} has a split pattern that does not match every text: {pattern!r}")
    return encoding


@functools.lru_cache(maxsize=8)
def _load(file: Path, _mtime_ns: int, _size: int, vocab_size: int, stop_ids: tuple[int, ...]) -> Tokenizer:
    # A vocabulary is 300,000 objects that stay; to look through them for garbage would take a quarter of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return Tokenizer(file, vocab_size, stop_ids)
    finally:
        if collects:
            gc.enable()


def _has_long_space(text: str, step: int = 100_000) -> bool:
    """Whether white space may run on for 2 * `step` characters: if so, it fills an aligned window of half that."""
    return any(text[start : start + step].isspace() for start in range(0, len(text) - step + 1, step))
