"""No number of a config.json reaches the engine before it was looked at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from langchain_qwen.checkpoints import open_folder
from langchain_qwen.checkpoints.limits import LARGEST
from langchain_qwen.checkpoints.rope import read_rope
from langchain_qwen.engine.runners.cpu.rope import frequencies
from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, UnsupportedModelError
from tests.damage import copy_with

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize("key", [*LARGEST, "rms_norm_eps"])
@pytest.mark.parametrize("value", [None, True, "64", 0, -1, 1.5, 10**9, 10**4000, [64], {}, float("nan"), float("inf")])
def test_no_size_of_a_wrong_type_or_out_of_range(tiny_checkpoint: Path, tmp_path: Path, key: str, value: Any) -> None:
    folder = copy_with(tiny_checkpoint, tmp_path / "copy", config={key: value})
    with pytest.raises(IncompleteCheckpointError, match=key):
        open_folder(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 8},
        {"num_attention_heads": 6, "num_key_value_heads": 2},
        {"head_dim": 15},
        {"head_dim": 0},
        {"head_dim": None},
        {"head_dim": 16.0},
        {"head_dim": 2048},
        {"num_attention_heads": 1024, "num_key_value_heads": 1, "head_dim": 1024},
        {"tie_word_embeddings": "yes"},
        {"quantization_config": "gptq"},
        {"rope_parameters": {"rope_theta": "10000"}},
        {"rope_parameters": {"rope_theta": 0}},
        {"rope_parameters": {"rope_theta": float("inf")}},
        {"rope_parameters": [1]},
        {"rope_scaling": YARN | {"factor": 1e9}},
        {"rope_scaling": YARN | {"factor": None}},
        {"rope_scaling": YARN | {"factor": float("nan")}},
        {"rope_scaling": YARN | {"original_max_position_embeddings": -1}},
        {"rope_scaling": YARN | {"beta_fast": 1, "beta_slow": 2}},
        {"rope_scaling": YARN | {"attention_factor": True}},
        {"rope_scaling": YARN | {"truncate": 1}},
        {"eos_token_id": "2"},
        {"eos_token_id": [[2]]},
        {"eos_token_id": 320},
        {"eos_token_id": True},
    ],
)
def test_no_numbers_that_contradict_each_other(tiny_checkpoint: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    folder = copy_with(tiny_checkpoint, tmp_path / "copy", config=config)
    with pytest.raises(IncompleteCheckpointError, match=r"config\.json"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": False}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "llama3"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "layer to layer"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "part of each head"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    tiny_checkpoint: Path, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    folder = copy_with(tiny_checkpoint, tmp_path / "copy", config=config)
    with pytest.raises(UnsupportedModelError, match=named):
        open_folder(folder)


@pytest.mark.parametrize(
    "generation",
    [{"temperature": "hot"}, {"top_k": 1.5}, {"top_p": 7}, {"repetition_penalty": 0}, {"eos_token_id": {}}],
)
def test_no_sampling_defaults_out_of_range(tiny_checkpoint: Path, tmp_path: Path, generation: dict[str, Any]) -> None:
    folder = copy_with(tiny_checkpoint, tmp_path / "copy")
    (folder / "generation_config.json").write_text(json.dumps(generation))
    with pytest.raises(IncompleteCheckpointError, match=next(iter(generation))):
        open_folder(folder)


class TestYarn:
    @pytest.mark.parametrize(
        "settings",
        [
            YARN,
            {"rope_type": "yarn", "factor": 4.0},
            {"rope_type": "yarn", "factor": 2, "attention_factor": 1.3, "beta_fast": 16, "beta_slow": 2},
            {"rope_type": "yarn", "factor": 8.0, "mscale": 0.7, "mscale_all_dim": 0.9, "truncate": False},
            {"rope_type": "yarn", "factor": 1.0},
            {"rope_type": "default"},
            None,
        ],
    )
    @pytest.mark.parametrize("style", ["rope_scaling", "rope_parameters"])
    @pytest.mark.parametrize("theta", [10_000.0, 1e6])
    def test_frequencies_are_those_of_transformers(self, settings: Any, style: str, theta: float) -> None:
        config = {"hidden_size": 256, "num_attention_heads": 2, "max_position_embeddings": 32768, "rope_theta": theta}
        if settings is not None:
            config[style] = settings
        theirs = Qwen2Config(**json.loads(json.dumps(config)))
        kind = theirs.rope_parameters["rope_type"]
        if kind == "default":
            expected = 1.0 / theta ** (torch.arange(0, 128, 2).float() / 128)
            scale = 1.0
        else:
            expected, scale = ROPE_INIT_FUNCTIONS[kind](theirs)
        actual, actual_scale = frequencies(read_rope(config, "m"), 128)
        torch.testing.assert_close(torch.from_numpy(actual), expected, rtol=1e-6, atol=0)
        assert actual_scale == pytest.approx(scale, abs=1e-12)

    def test_the_window_is_the_one_that_qwen_documents(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        config = {"max_position_embeddings": 32768, "rope_scaling": YARN}
        assert open_folder(copy_with(tiny_checkpoint, tmp_path / "a", config=config)).context_window == 131_072
        config = {"max_position_embeddings": 131_072, "rope_scaling": YARN}
        assert open_folder(copy_with(tiny_checkpoint, tmp_path / "b", config=config)).context_window == 131_072


class TestFiles:
    """What stands in a folder may be no file at all."""

    FILES = (
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "model.safetensors",
        "chat_template.jinja",
    )

    @pytest.fixture(autouse=True)
    def ends(self) -> Iterator[None]:
        """A reader that waits for ever fails the test, rather than stopping the suite."""

        def hangs(*_: object) -> None:
            raise TimeoutError("hangs")

        before = signal.signal(signal.SIGALRM, hangs)
        signal.alarm(60)
        yield
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

    @pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
    @pytest.mark.parametrize("name", FILES)
    def test_pipes_and_others_do_not_hang(
        self, tiny_checkpoint: Path, tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "c"))
        (folder / name).unlink(missing_ok=True)
        monkeypatch.chdir(folder)  # the path of a socket has to be short
        if kind == "pipe":
            os.mkfifo(name)
        elif kind == "folder":
            Path(name).mkdir()
        elif kind == "device":
            Path(name).symlink_to("/dev/zero")
        else:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(name)
        with pytest.raises(CheckpointError):
            open_folder(folder)

    @pytest.mark.parametrize(
        "text",
        [
            '{"model_type": "qwen2", "model_type": "llama"}',
            '{"a": ' * 100_000,
            "[" * 500 + "]" * 500,
            '{"a": ' + "[" * 100 + "]" * 100 + "}",
            '{"vocab_size": ' + "9" * 10_000 + "}",
            '{"a": NaN',
            "\ufeff{}",
        ],
    )
    def test_json_that_breaks_readers(self, tiny_checkpoint: Path, tmp_path: Path, text: str) -> None:
        folder = copy_with(tiny_checkpoint, tmp_path / "copy")
        (folder / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(IncompleteCheckpointError, match=r"config\.json is damaged"):
            open_folder(folder)

    def test_json_of_a_gigabyte_is_not_read(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        folder = copy_with(tiny_checkpoint, tmp_path / "copy")
        with (folder / "config.json").open("wb") as file:
            file.truncate(1 << 30)
        with pytest.raises(IncompleteCheckpointError, match="larger than 64 MB"):
            open_folder(folder)

    @pytest.mark.parametrize(
        "shard", ["../other/model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x\0.safetensors", 7, None]
    )
    def test_an_index_names_files_of_its_folder_only(self, tiny_checkpoint: Path, tmp_path: Path, shard: Any) -> None:
        copy_with(tiny_checkpoint, tmp_path / "other")
        folder = copy_with(tiny_checkpoint, tmp_path / "copy")
        (folder / "model.safetensors").unlink()
        index = {"weight_map": {"model.norm.weight": shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(IncompleteCheckpointError, match="no safetensors file of its folder"):
            open_folder(folder)
