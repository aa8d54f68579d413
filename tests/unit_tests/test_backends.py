"""Which settings go with which place where answers are generated."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidParameterError, MissingDependencyError

WITHOUT_VLLM = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")


@WITHOUT_VLLM
def test_without_vllm_it_is_said_what_to_install():
    with pytest.raises(MissingDependencyError, match=r'pip install "langchain-qwen\[vllm\]"'):
        ChatQwen(engine="vllm")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "vllm", "base_url": "http://host/v1"}, "leave it out beside base_url"),
        ({"vllm_kwargs": {"enforce_eager": True}}, 'goes with engine="vllm"'),
        ({"vllm_kwargs": {"enforce_eager": True}, "base_url": "http://host/v1"}, "vllm_kwargs: the server decides"),
        ({"engine": "vllm", "precision": "int4"}, "GPTQ or AWQ"),
        ({"engine": "vllm", "device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
        ({"engine": "vllm", "vllm_kwargs": {"dtype": "half"}}, "dtype, .*`precision`"),
        ({"engine": "vllm", "vllm_kwargs": {"trust_remote_code": True}}, "never run"),
        ({"engine": "vllm", "vllm_kwargs": {"scheduler_cls": object()}}, "no JSON"),
        ({"engine": "turbo"}, "engine='turbo'"),
    ],
)
def test_settings_that_do_not_go_together(settings, words):
    with pytest.raises(InvalidParameterError, match=words):
        ChatQwen(**settings)


def test_the_own_engine_is_the_default_and_imports_no_vllm():
    assert ChatQwen().engine == "local"
    code = "import sys, langchain_qwen; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
