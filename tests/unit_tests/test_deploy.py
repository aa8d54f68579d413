"""The files of deploy/: they parse, agree with one another, and the table is what the script computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deploy import sizing
from langchain_qwen.engine.remote.wire import GUIDANCE
from tests.vllm.conftest import FLAGS

DEPLOY = Path(__file__).parents[2] / "deploy"
# What every server needs, by the names that Ray gives to vLLM's arguments.
NEEDED = {
    "structured_outputs_config": {"backend": "guidance"},
    "generation_config": "vllm",
    "enable_prompt_tokens_details": True,
    "enable_prefix_caching": True,
    "max_logprobs": 20,
}


def read(name):
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def engine_arguments(name):
    """vLLM's arguments in a file."""
    found = read(name)
    if name.startswith("vllm"):
        return {key.replace("-", "_"): value for key, value in found.items()}
    if name == "kuberay.yaml":
        found = yaml.safe_load(found["spec"]["serveConfigV2"])
    (application,) = found["applications"]
    (config,) = application["args"]["llm_configs"]
    return config["engine_kwargs"]


FILES = sorted(path.name for path in DEPLOY.glob("*.yaml"))


def test_all_of_them_are_known_and_told_of():
    assert FILES == ["kuberay.yaml", "ray_serve.yaml", "vllm_one_gpu.yaml", "vllm_several_gpus.yaml"]
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in readme for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_flags_that_matter_are_set(name):
    arguments = engine_arguments(name)
    assert {key: arguments[key] for key in NEEDED} == NEEDED
    assert arguments["max_model_len"] <= 32_768  # Qwen2.5's window without YaRN


def test_errors_and_tests_speak_of_the_same_flag():
    assert GUIDANCE == "--structured-outputs-config.backend guidance"
    assert "--structured-outputs-config.backend" in FLAGS
    assert GUIDANCE in (DEPLOY / "README.md").read_text(encoding="utf-8")


def test_the_heads_can_be_shared_out():
    parallel = read("vllm_several_gpus.yaml")["tensor-parallel-size"]
    model = read("vllm_several_gpus.yaml")["model"].removeprefix("Qwen/Qwen2.5-").removesuffix("-Instruct")
    assert sizing.MODELS[model][2] % parallel == 0
    comment = (DEPLOY / "vllm_several_gpus.yaml").read_text(encoding="utf-8")
    for name, (_, _, heads, *_) in sizing.MODELS.items():
        assert f"{heads} (" in comment, name


def test_kubernetes_runs_what_ray_serve_runs():
    spec, ray = read("kuberay.yaml")["spec"], read("ray_serve.yaml")
    del ray["http_options"]
    assert yaml.safe_load(spec["serveConfigV2"]) == ray
    cluster = spec["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    for container in containers:
        assert f":{cluster['rayVersion']}-" in container["image"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    (workers,) = cluster["workerGroupSpecs"]
    config = ray["applications"][0]["args"]["llm_configs"][0]
    gpus = containers[1]["resources"]["limits"]["nvidia.com/gpu"]
    assert gpus == config["engine_kwargs"]["tensor_parallel_size"]
    assert workers["maxReplicas"] == config["deployment_config"]["autoscaling_config"]["max_replicas"]
    assert 8000 in [port["containerPort"] for port in containers[0]["ports"]]
    volumes = {volume["name"] for volume in workers["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in containers[1]["volumeMounts"]} == volumes


# What Qwen publishes of its models, in billions.
@pytest.mark.parametrize(
    ("model", "parameters"), [("0.5B", 0.49), ("1.5B", 1.54), ("3B", 3.09), ("7B", 7.61), ("14B", 14.7), ("32B", 32.5)]
)
def test_parameters_are_those_that_are_published(model, parameters):
    assert sizing.architecture(model).parameters / 1e9 == pytest.approx(parameters, rel=0.01)


def test_sizes_of_a_real_checkpoint(tiny_checkpoint):
    """The formula counts what is in a file."""
    from langchain_qwen.checkpoints import open_folder

    checkpoint = open_folder(tiny_checkpoint)
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    assert sizing.Architecture.from_config(config).parameters == checkpoint.parameters


def test_users_fit_and_one_more_does_not():
    for size in sizing.sizes():
        for gpu in sizing.GPUS:
            users = size.users(gpu * 1e9, 4096)
            room = gpu * 1e9 * sizing.USED - sizing.OWN - size.weights
            assert users == 0 or users * size.kv * 4096 <= room
            assert (users + 1) * size.kv * 4096 > room


def test_keys_and_values_of_7b():
    seven = next(size for size in sizing.sizes() if size.model == "7B")
    assert seven.kv == 2 * 28 * 4 * 128 * 2  # keys and values, layers, heads, numbers, bytes


def test_the_table_is_what_the_script_says():
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert readme.endswith(sizing.table(sizing.CONTEXT) + "\n")
