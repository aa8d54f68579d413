"""int8 and nf4 of the real bitsandbytes library, on the CPU."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from langchain_core.load import dumps, loads
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import open_folder
from langchain_qwen.engine.runners.torch.load import bitsandbytes_settings, load_model
from langchain_qwen.errors import InvalidParameterError, MissingDependencyError
from tests.quantised import Variant, write_quantised

INT8 = BitsAndBytesConfig(load_in_8bit=True)
NF4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


@pytest.mark.parametrize(("config", "held", "most"), [(INT8, "int8", 0.02), (NF4, "int4", 0.25)])
def test_weights_are_held_by_the_library(tiny_checkpoint, config, held, most):
    import bitsandbytes

    checkpoint = open_folder(tiny_checkpoint)
    settings = {"device": "cpu", "attn_implementation": "sdpa"}
    model, precision = load_model(
        checkpoint, precision="auto", quantization_config=bitsandbytes_settings(config), **settings
    )
    assert precision == held
    kind = bitsandbytes.nn.Linear8bitLt if held == "int8" else bitsandbytes.nn.Linear4bit
    layer = model.model.layers[1].mlp.down_proj
    assert isinstance(layer, kind)
    x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))
    expected = x @ load_file(tiny_checkpoint / "model.safetensors")["model.layers.1.mlp.down_proj.weight"].float().T
    actual = layer(x.to(model.dtype)).float()
    assert 0 < (actual - expected).norm() / expected.norm() < most


@pytest.mark.parametrize(("config", "held"), [(INT8, "int8"), (NF4, "int4")])
def test_a_chat_runs_on_them(tiny_checkpoint, config, held):
    with ChatQwen(model=str(tiny_checkpoint), quantization_config=config, temperature=0, max_tokens=8) as model:
        answer = model.invoke("hello")
        assert answer.usage_metadata["output_tokens"] > 0
        engine = model._backend.engine(model._open().checkpoint)
        assert engine.info.precision == held
        with ChatQwen(model=str(tiny_checkpoint), temperature=0, max_tokens=8) as other:  # has an engine of its own
            assert other._backend.engine(other._open().checkpoint) is not engine
        assert model.batch(["hello", "hello"])[1].text == answer.text


def test_settings_are_plain_data():
    settings = bitsandbytes_settings(NF4)
    assert json.loads(json.dumps(settings)) == settings
    assert bitsandbytes_settings(settings) == settings
    assert (settings["bnb_4bit_quant_type"], settings["bnb_4bit_compute_dtype"]) == ("nf4", "float32")
    assert bitsandbytes_settings(NF4.to_dict()) == settings
    model = ChatQwen(model="coder-0.5b", quantization_config=NF4)
    again = loads(dumps(model), valid_namespaces=["langchain_qwen"], allowed_objects=[ChatQwen])
    assert again.quantization_config == model.quantization_config == settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"load_in_4bits": True}, "no setting load_in_4bits; .*load_in_4bit, "),
        ({"load_in_4bit": True, "load_in_8bit": True}, "only one can be used"),
        ({"load_in_4bit": "yes"}, "must be a boolean"),
        ({}, "asks for nothing"),
        ("nf4", "not str"),
    ],
)
def test_wrong_settings(config: Any, message: str):
    with pytest.raises(InvalidParameterError, match=message):
        ChatQwen(model="coder-0.5b", quantization_config=config)


def test_contradictions(tiny_checkpoint, tmp_path):
    with pytest.raises(InvalidParameterError, match="give one of them"):
        ChatQwen(model=str(tiny_checkpoint), precision="int8", quantization_config=INT8).load()
    folder = write_quantised(tiny_checkpoint, tmp_path / "q", Variant())
    with pytest.raises(InvalidParameterError, match="quantised already"):
        ChatQwen(model=str(folder), quantization_config=INT8).load()


def test_without_the_library(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else object())
    with pytest.raises(MissingDependencyError, match=r"needs bitsandbytes: pip install 'langchain-qwen\[bnb\]'"):
        load_model(
            open_folder(tiny_checkpoint),
            precision="auto",
            device="cpu",
            attn_implementation="sdpa",
            quantization_config=bitsandbytes_settings(INT8),
        )
