"""vLLM and Ray read the files of deploy/ themselves, in the environment that has them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.vllm.conftest import ENVIRONMENT, SETTINGS

DEPLOY = Path(__file__).parents[2] / "deploy"
PYTHON = ENVIRONMENT / "bin" / "python"

READ_BY_VLLM = """
import sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
arguments = parser.parse_args(["serve", "--config", sys.argv[1]])
validate_parsed_serve_args(arguments)
assert arguments.structured_outputs_config.backend == "guidance", arguments.structured_outputs_config
assert arguments.enable_prompt_tokens_details and arguments.enable_prefix_caching
assert arguments.generation_config == "vllm" and arguments.served_model_name == ["qwen"]
"""
READ_BY_RAY = """
import sys, yaml
from ray.serve.schema import ServeDeploySchema
found = yaml.safe_load(open(sys.argv[1]))
if found.get("kind") == "RayService":
    found = yaml.safe_load(found["spec"]["serveConfigV2"])
ServeDeploySchema.model_validate(found)
from ray.serve.llm import LLMConfig
for application in found["applications"]:
    for config in application["args"]["llm_configs"]:
        LLMConfig.model_validate(config)
"""


def run(code, name):
    if not PYTHON.exists():
        pytest.skip(f"there is no {PYTHON}; `make test-vllm` makes it")
    done = subprocess.run(
        [str(PYTHON), "-c", code, str(DEPLOY / name)], env=SETTINGS, capture_output=True, text=True, check=False
    )
    if "No module named 'ray'" in done.stderr:
        pytest.skip("Ray is not installed there; `make test-ray` installs it")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", ["vllm_one_gpu.yaml", "vllm_several_gpus.yaml"])
def test_vllm_reads_its_files(name):
    run(READ_BY_VLLM, name)


@pytest.mark.parametrize("name", ["ray_serve.yaml", "kuberay.yaml"])
def test_ray_reads_its_files(name):
    run(READ_BY_RAY, name)
