"""What tokenizer.json says, as tiktoken needs it.

tiktoken knows no list of merges: it joins whichever neighbours form the token of the lowest rank. With ids as ranks
that gives the same tokens as the list of merges, if

1. the merges make tokens with ascending ids, each from bytes or earlier tokens, and
2. each token of the vocabulary is a byte or made by exactly one merge.

For then, when the ranks below a token's own are exhausted, the bytes of that token always stand as the two parts of its
merge, whatever is around them: neighbours that were never joined across an edge cannot change what is inside. Both
conditions are checked here. (It takes a third that training guarantees and the tests check for the real vocabulary:
that each token's own bytes are encoded as that token.)
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from langchain_qwen.errors import IncompleteCheckpointError, UnsupportedModelError
from langchain_qwen.regular_files import read_object


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A byte-level BPE vocabulary.

    Attributes:
        ranks: Bytes of the ordinary tokens with their ids.
        split_pattern: The regular expression that cuts text into the pieces inside which tokens are merged.
        control_tokens: Texts of the added tokens with their ids.
    """

    ranks: dict[bytes, int]
    split_pattern: str
    control_tokens: Mapping[str, int]


def read_vocabulary(file: Path) -> Vocabulary:
    """Read a tokenizer.json.

    Raises:
        IncompleteCheckpointError: If the file is missing or damaged.
        UnsupportedModelError: If the tokenizer is of another kind than Qwen2's.
    """
    pattern, control_tokens, text, ends, ids = _read(file)
    # Made only now that the file's 300,000 objects are gone: among them they would hold 20 MB of holes.
    ranks = {text[start:end]: token for start, end, token in zip([0, *ends], ends, ids, strict=False)}
    return Vocabulary(ranks, pattern, control_tokens)


def _read(file: Path) -> tuple[str, dict[str, int], bytes, array[int], array[int]]:
    """Split pattern, control tokens, the bytes of all other tokens in a row, where each ends, and their ids."""
    try:
        data = read_object(file)
    except (OSError, IncompleteCheckpointError) as error:
        raise IncompleteCheckpointError(f"{file} cannot be read ({error}); download the checkpoint again") from error
    match data:
        case {
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
                    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
                ],
            },
            "model": {"type": "BPE", "vocab": dict(vocab), "merges": list(merges), **options},
            "added_tokens": list(added),
        } if not any(options.get(name) for name in _OPTIONS_WITHOUT_COUNTERPART):
            control_tokens = _control_tokens(file, added)
            _check_ids(file, vocab, control_tokens)
            return pattern, control_tokens, *_tokens(file, vocab, merges, set(control_tokens.values()))
    raise _unsupported(file, "it is not a byte-level BPE with NFC normalisation and one split pattern")


MAX_TOKENS = 1 << 21  # ten times as many as Qwen2.5 has
_OPTIONS_WITHOUT_COUNTERPART = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")


def _control_tokens(file: Path, added: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    for token in added:
        match token:
            case {"id": int(), "content": str()} if token["content"]:
                pass
            case _:
                raise _unsupported(file, "one of its added tokens has no text or no number")
        if any(token.get(name) for name in ("single_word", "lstrip", "rstrip")):
            raise _unsupported(file, f"its token {token['content']!r} is matched by more than its own text")
    return {token["content"]: token["id"] for token in added}


def _check_ids(file: Path, vocab: Mapping[str, Any], control_tokens: Mapping[str, int]) -> None:
    """Raise unless every token has a number of its own; an added token may stand in the vocabulary too."""
    ids = [*vocab.values(), *(token for text, token in control_tokens.items() if text not in vocab)]
    known = all(type(token) is int and 0 <= token < MAX_TOKENS for token in ids)
    if (
        not known
        or len(set(ids)) < len(ids)
        or any(vocab.get(text, token) != token for text, token in control_tokens.items())
    ):
        raise _unsupported(file, "its tokens do not have numbers of their own")


def _tokens(
    file: Path, vocab: Mapping[str, int], merges: Sequence[Any], added: set[int]
) -> tuple[bytes, array[int], array[int]]:
    byte_of = _byte_of_symbol()
    ids = {symbols: token for symbols, token in vocab.items() if token not in added}
    made = {symbols: token for symbols, token in ids.items() if len(symbols) == 1}
    if made.keys() != byte_of.keys():
        raise _unsupported(file, "its vocabulary lacks some of the 256 bytes, or holds other symbols")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    if not _are_pairs(pairs):
        raise _unsupported(file, "one of its merges does not name two tokens")
    newest = -1
    for left, right in pairs:
        token = ids.get(left + right, -1)
        if token <= newest or left not in made or right not in made:
            raise _unsupported(file, f"its merge of {left!r} and {right!r} is out of the order of its token ids")
        made[left + right] = newest = token
    if made.keys() != ids.keys():
        raise _unsupported(file, f"no merge makes its token {next(iter(ids.keys() - made.keys()))!r}")
    table = {ord(symbol): byte for symbol, byte in byte_of.items()}
    text = "".join(ids).translate(table).encode("latin-1")  # a byte for each symbol
    return text, array("I", accumulate(map(len, ids))), array("I", ids.values())


def _are_pairs(merges: Sequence[Any]) -> bool:
    """Whether each is a list of two texts; there are 150,000, so they are looked at all together."""
    return (
        {*map(type, merges)} <= {list}
        and {*map(len, merges)} <= {2}
        and {*map(type, chain.from_iterable(merges))} <= {str}
    )


def _byte_of_symbol() -> dict[str, int]:
    """GPT-2's visible symbols for bytes: printable Latin-1 stands for itself, the others follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _unsupported(file: Path, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{file} is no tokenizer of the Qwen2 family: {reason}; use a Qwen2 or Qwen2.5 model")
