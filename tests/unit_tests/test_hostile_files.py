"""Any bytes in the files of a checkpoint give a typed error or an object that works: nothing else, and no crash.

`make fuzz` runs each for LANGCHAIN_QWEN_FUZZ_SECONDS on ever new examples; the unit tests run a few that do not change.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.checkpoints.quantisation import own_precision, read_quantisation
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.weights import load_weights
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.errors import QwenError
from langchain_qwen.prompting import Tokenizer
from tests.quantised import Variant, write_quantised

SECONDS = float(os.environ.get("LANGCHAIN_QWEN_FUZZ_SECONDS", "0"))
EXAMPLES = 25

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 400)
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["yarn", "gptq", "awq", "BF16", "I32", "lm_head", 64, 32, 128, 4, 8]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)
# Which of the places of a JSON document to change, counted over all of them, and what to put there.
changes = st.lists(st.tuples(st.integers(0, 10_000), values), min_size=1, max_size=3)


def fuzz(check: Callable[..., None], **strategies: st.SearchStrategy[Any]) -> None:
    """Run a check on a few examples, or for as long as was asked for."""
    end, round_ = time.monotonic() + SECONDS, 0
    while round_ == 0 or time.monotonic() < end:
        quiet = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        seed(round_)(quiet(given(**strategies)(check)))()
        round_ += 1


def changed(document: Any, edits: list[tuple[int, Any]]) -> Any:
    """A copy of a JSON document with values put in other places."""
    document = json.loads(json.dumps(document))
    for number, value in edits:
        places = []
        stack = [document]
        while stack:
            node = stack.pop()
            keys = list(node) if isinstance(node, dict) else range(min(len(node), 20))
            places += [(node, key) for key in keys]
            stack += [node[key] for key in keys if isinstance(node[key], dict | list)]
        if places:
            node, key = places[number % len(places)]
            node[key] = value
    return document


def use(folder: Path) -> None:
    """All that reading a checkpoint on the CPU does, to a first row of logits."""
    checkpoint = open_folder(folder)
    precision, quantisation = "int8", None
    if own := checkpoint.config.get("quantization_config"):
        precision = own_precision("m", own, "auto")
        quantisation = read_quantisation("m", own)
    weights = load_weights(
        folder,
        checkpoint.config,
        precision=precision,
        fingerprint="x",
        cache_folder=folder / "cache",
        num_threads=1,
        quantisation=quantisation,
    )
    runner = CpuRunner(weights, precision=precision, num_threads=1, max_step_tokens=8)
    runner.allocate(1)
    assert runner.step([Chunk([1, 2, 3], 0, [0], 1)]).shape == (1, checkpoint.vocab_size)
    runner.close()


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def attempt(folder: Path, action: Callable[[], object]) -> None:
    """It works, or says what is wrong; anything else that it raises fails the test."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    with suppress(QwenError):
        action()


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_configurations(folder: Path, name: str) -> None:
    original = json.loads((folder / name).read_text())

    def check(edits: Any) -> None:
        (folder / name).write_text(json.dumps(changed(original, edits)))
        attempt(folder, lambda: use(folder))

    fuzz(check, edits=changes)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_any_bytes(folder: Path, name: str) -> None:
    def check(content: bytes) -> None:
        (folder / name).write_bytes(content)
        attempt(folder, lambda: use(folder))

    fuzz(check, content=st.binary(max_size=200))


def test_rotary_embeddings(folder: Path) -> None:
    original = json.loads((folder / "config.json").read_text())
    names = ("rope_type", "type", "factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale")

    def check(rope: Any, style: str) -> None:
        (folder / "config.json").write_text(json.dumps(original | {style: {"rope_type": "yarn", **rope}}))
        attempt(folder, lambda: use(folder))

    fuzz(
        check,
        rope=st.dictionaries(st.sampled_from(names), values | st.sampled_from(["yarn", 2.0, 4, 512]), max_size=5),
        style=st.sampled_from(["rope_scaling", "rope_parameters"]),
    )


def test_headers_of_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

    def check(edits: Any) -> None:
        text = json.dumps(changed(header, edits)).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data)
        attempt(folder, lambda: use(folder))

    fuzz(check, edits=changes)


@pytest.mark.parametrize("variant", [Variant(desc_act=True), Variant(bits=8), Variant(method="awq", sym=False)])
def test_quantised_checkpoints(tiny_checkpoint: Path, tmp_path: Path, variant: Variant) -> None:
    folder = write_quantised(tiny_checkpoint, tmp_path / "q", variant)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_checkpoint / name, folder / name)
    config = json.loads((folder / "config.json").read_text())
    file = folder / "model.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

    def check(settings_edits: Any, header_edits: Any) -> None:
        own = changed(config["quantization_config"], settings_edits)
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": own}))
        text = json.dumps(changed(header, header_edits)).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data)
        attempt(folder, lambda: use(folder))

    few = st.lists(st.tuples(st.integers(0, 10_000), values), max_size=2)
    fuzz(check, settings_edits=few, header_edits=few)


def test_tokenizers(folder: Path) -> None:
    original = json.loads((folder / "tokenizer.json").read_text())

    def check(edits: Any) -> None:
        (folder / "tokenizer.json").write_text(json.dumps(changed(original, edits)))

        def build() -> None:
            tokenizer = Tokenizer.from_folder(folder, 320, [266])
            assert tokenizer.decode(tokenizer.encode("the answer 1 é")) == "the answer 1 é"

        attempt(folder, build)

    fuzz(check, edits=changes)


def test_packed_weights(folder: Path) -> None:
    """A cache that others wrote to is made anew, and gives the same answers."""
    use(folder)
    (file,) = (folder / "cache" / "packed").glob("*.safetensors")
    content = file.read_bytes()

    def check(place: int, junk: bytes) -> None:
        start = place % len(content)
        file.write_bytes(content[:start] + junk + content[start + len(junk) :])
        use(folder)

    fuzz(check, place=st.integers(0, 4000) | st.integers(0, 10**7), junk=st.binary(min_size=1, max_size=20))
