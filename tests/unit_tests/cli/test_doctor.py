from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError

from langchain_qwen.checkpoints import RELEASES, resolve
from langchain_qwen.checkpoints.memory import BITS
from langchain_qwen.cli.doctor import _engine as engine_line
from langchain_qwen.cli.doctor import facts as looking
from langchain_qwen.cli.doctor.facts import Cache, Facts, Gpu
from langchain_qwen.cli.doctor.fit import CPU_ENGINE, KNOWN, PRECISIONS, QWEN_1_5B, Architecture, runner
from langchain_qwen.cli.doctor.report import Report, advise, judge
from langchain_qwen.engine.loading import runs_natively
from langchain_qwen.engine.runners.cpu import library, packing
from langchain_qwen.engine.runners.cpu.kernels import VARIABLE
from langchain_qwen.engine.runners.cpu.packing import DEFAULT_GROUP
from langchain_qwen.engine.runners.cpu.weights import FORMATS
from langchain_qwen.errors import EngineError

GB = 10**9
BANDWIDTH = 16e9


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "own"))


HEALTHY = Facts(
    system="Linux",
    cpu="CPU",
    instruction_sets=["AVX2"],
    physical_cores=4,
    usable_cores=4,
    memory_total=16 * GB,
    memory_free=12 * GB,
    read_bandwidth=BANDWIDTH,
    gpus=[],
    nvidia_driver=False,
    engine_built=True,
    kernels="avx2",
    engine_error=None,
    differing_kernels=[],
    torch_build="cpu",
    torch_threads=4,
    packages={"transformers": "5.0"},
    extras={"gptq": False, "bnb": False, "vllm": False},
    own_cache=Cache("/own", {}, 90 * GB),
    hub_cache=Cache("/hub", {}, 90 * GB),
    hub="the hub",
    hub_state="reachable",
)


def healthy(**changed) -> Report:
    """A machine on which nothing is wrong, but for what is `changed`: facts, or fields of the report."""
    about = {name: changed.pop(name) for name in list(changed) if name in Report.__dataclass_fields__}
    facts = replace(HEALTHY, **changed)
    precision = "int4" if facts.engine_built else "fp32"
    fits = judge(QWEN_1_5B, about.get("device", "cpu"), facts)
    report = Report("coder-1.5b", "/models/coder-1.5b", None, None, "cpu", precision, fits, facts)
    return replace(report, **about)


def without_engine(**changed) -> Report:
    return healthy(engine_built=False, kernels=None, **changed)


def levels(report: Report, words: str) -> list[str]:
    """Levels of the findings that hold these words."""
    return [level for level, what, _ in advise(report) if words in what]


# -- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", RELEASES)
def test_parameters_are_those_of_the_releases(alias):
    assert KNOWN[alias].parameters == RELEASES[alias].parameters


def test_sizes_are_those_of_the_loaded_model(tiny_checkpoint):
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(tiny_checkpoint)
    config = model.config.to_dict()
    architecture = Architecture.from_config(config)
    assert architecture.parameters == sum(p.numel() for p in model.parameters())
    untied = Architecture.from_config({**config, "tie_word_embeddings": False})
    assert untied.parameters - architecture.parameters == model.lm_head.weight.numel()


@pytest.mark.parametrize("precision", ["int4", "int8", "bf16"])
def test_packed_sizes_are_those_of_the_cpu_engine(precision):
    layers, hidden, ffn, kv, vocab = 28, 1536, 8960, 2 * 128, 151_936
    shapes = [(hidden + 2 * kv, hidden), (hidden, hidden), (2 * ffn, hidden), (hidden, ffn)]
    shapes = [*shapes * layers, (vocab, hidden)]
    exact = sum(packing.packed_bytes(FORMATS[precision], DEFAULT_GROUP, *shape) for shape in shapes)
    fit = next(fit for fit in healthy().fits if fit.precision == precision)
    assert fit.weight_bytes == pytest.approx(exact, rel=1e-3)  # but for biases and norms
    assert fit.window_bytes == 28_672 * 32_768
    assert fit.tokens_per_second == pytest.approx(BANDWIDTH / exact, rel=1e-3)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("built", [True, False])
def test_the_runner_is_the_one_that_the_engine_chooses(monkeypatch, device, precision, built):
    monkeypatch.setattr(library, "available", lambda: built)
    assert (runner(precision, device, native=built) == CPU_ENGINE) == runs_natively(precision, device)


def test_what_fits():
    by_name = {fit.precision: fit for fit in healthy(memory_free=3 * GB).fits}
    assert by_name["int4"].context_tokens == 32_768
    assert by_name["fp32"].context_tokens == 0
    weights = BITS["fp16"] // 8 * QWEN_1_5B.parameters
    fp16 = next(fit for fit in healthy(memory_free=weights + 1000 * 28_672).fits if fit.precision == "fp16")
    assert fp16.context_tokens == 1000


def test_int8_and_int4_through_torch_need_an_extra():
    by_name = {fit.precision: fit for fit in without_engine().fits}
    assert [p for p in PRECISIONS if by_name[p].missing] == ["int4", "int8"]
    assert "bnb" in by_name["int4"].missing


# -- advice -----------------------------------------------------------------------------------------------------


def test_a_healthy_machine_hears_of_slow_precisions_only():
    ((level, what, _),) = advise(healthy())
    assert level == "slow"
    assert "--precision fp32 reads 6.2 GB" in what
    assert "at most 2.6 tokens a second, where int4 may reach 18.4" in what


@pytest.mark.parametrize(("state", "level"), [("off", "problem"), ("out of reach", "problem"), ("reachable", "hint")])
def test_a_hub_model_that_is_not_here(state, level):
    report = healthy(model="Qwen/Qwen2.5-1.5B-Instruct", folder=None, hub_state=state)
    assert levels(report, "is not on this machine") == [level]


def test_an_alias_that_is_not_here_needs_no_hub():
    absent = {"model": "coder-1.5b", "folder": None, "hub_state": "off"}
    assert levels(healthy(**absent), "the first use downloads it (2.2 GB on the disk)") == ["hint"]
    full = healthy(**absent, own_cache=Cache("/own", {}, 2 * GB))
    assert levels(full, "/own has 2.0 GB left") == ["problem"]


def test_a_damaged_checkpoint():
    report = healthy(model="./m", folder=None, damage="m lacks config.json")
    assert levels(report, "m lacks config.json") == ["problem"]


def test_a_damaged_folder_is_not_looked_for_on_the_hub(run, tmp_path, monkeypatch):
    (tmp_path / "models" / "m").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("models/m", "./models"):
        told = json.loads(run("doctor", "--model", name, "--json").stdout)["findings"][0]
        assert told["level"] == "problem"
        assert "lacks config.json" in told["what"]
        assert "HF_HUB_OFFLINE" not in told["what"]


def test_a_name_that_is_nothing():
    assert levels(healthy(model="coder-2b", folder=None), "is no alias, no folder") == ["problem"]


@pytest.mark.parametrize(
    ("native", "installed", "expected"), [(True, False, []), (False, False, ["problem"]), (False, True, [])]
)
def test_a_quantised_checkpoint_needs_an_extra_where_torch_runs_it(native, installed, expected):
    extras = {"gptq": installed, "bnb": False, "vllm": False}
    report = healthy(quantised="gptq", precision="gptq", fits=[], engine_built=native, extras=extras)
    assert levels(report, "GPTQ weights") == expected


def test_little_memory():
    assert levels(healthy(memory_free=GB), "free memory holds") == ["slow"]
    assert levels(healthy(memory_free=GB // 2), "more memory than is free") == ["problem"]
    assert levels(healthy(memory_free=12 * GB), "memory") == ["slow"]  # that of the slow precisions


def test_the_cpu_engine():
    assert levels(without_engine(), "was not built") == ["slow"]
    broken = healthy(kernels=None, engine_error="wrong ELF class")
    assert levels(broken, "wrong ELF class") == ["problem"]
    assert levels(healthy(kernels="portable"), "portable code") == ["slow"]


def test_bf16_through_torch():
    assert levels(without_engine(), "bf16") == ["slow"]
    assert levels(without_engine(instruction_sets=["AVX2", "AMX BF16"]), "bf16") == []


@pytest.mark.parametrize("threads", [16, 1])
def test_threads(threads):
    words = f"torch runs {threads} threads on 4 usable cores"
    assert levels(without_engine(torch_threads=threads), words) == ["slow"]
    assert levels(healthy(torch_threads=threads), words) == []  # the CPU engine has its own


def test_gpus():
    assert levels(healthy(torch_build="CUDA 13.0"), "there is no GPU") == ["hint"]
    for report, told in ((healthy, True), (without_engine, False)):
        (remedy,) = [todo for _, what, todo in advise(report(torch_build="CUDA 13.0")) if "there is no GPU" in what]
        assert "--torch-backend=cpu" in remedy
        assert ("need no torch" in remedy) is told
    assert levels(healthy(nvidia_driver=True), "sees no GPU") == ["slow"]
    gpu = Gpu("G", 8 * GB, 8 * GB)
    report = healthy(torch_build="CUDA 13.0", device="cuda", precision="bf16", gpus=[gpu])
    assert [level for level, *_ in advise(report)] == ["hint"]  # of vLLM


def test_which_engine_and_why():
    with_vllm = {**HEALTHY.extras, "vllm": True}
    assert healthy().engine == ("CPU engine", "there is no GPU")
    assert healthy(extras=with_vllm).engine == ("CPU engine", "there is no GPU; vLLM is installed, and is for GPUs")
    assert without_engine().engine == ("torch", "there is no GPU, and the CPU engine was not built")
    on_gpu = {"torch_build": "CUDA 13.0", "device": "cuda", "precision": "bf16", "gpus": [Gpu("G", 8 * GB, 8 * GB)]}
    assert healthy(**on_gpu).engine == ("torch", "there is G")
    ((_, what, todo),) = advise(healthy(**on_gpu))
    assert "tested on CPUs alone" in what
    assert todo == 'pip install "langchain-qwen[vllm]", then write ChatQwen(engine="vllm")'
    ((*_, todo),) = advise(healthy(**on_gpu, extras=with_vllm))
    assert todo == 'write ChatQwen(engine="vllm")'
    apple = healthy(torch_build="cpu", device="mps", precision="bf16", gpus=[Gpu("Apple GPU", None, None)])
    assert levels(apple, "vLLM") == levels(healthy(extras=with_vllm), "vLLM") == []


def test_no_torch():
    nothing = {"torch_build": None, "torch_threads": None, "packages": {}}
    assert levels(healthy(**nothing), "not installed") == []
    assert [fit.precision for fit in healthy(**nothing).fits if fit.missing] == ["fp16", "fp32"]
    assert levels(without_engine(**nothing), "which is not installed") == ["problem"]


# -- looking ----------------------------------------------------------------------------------------------------


def test_cpuinfo(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu avx2 avx512f amx_bf16\n\nprocessor\t: 1\n")
    assert looking.read_cpuinfo(file) == ("Fast CPU", ["AVX2", "AVX-512", "AMX BF16"])
    file.write_text("processor\t: 0\nFeatures\t: fp asimd i8mm\n")
    assert looking.read_cpuinfo(file)[1] == ["NEON", "I8MM"]
    assert all(looking.read_cpuinfo(tmp_path / "none"))


def test_memory_of_a_container(tmp_path):
    outside = looking.read_memory(tmp_path)
    (tmp_path / "memory.current").write_text("600000\n")
    for limit, expected in (("1000000\n", (1_000_000, 400_000)), ("500000\n", (500_000, 0))):
        (tmp_path / "memory.max").write_text(limit)
        assert looking.read_memory(tmp_path) == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert looking.read_memory(tmp_path)[0] == outside[0]


def test_caches(tmp_path):
    (tmp_path / "checkpoints" / "m").mkdir(parents=True)
    (tmp_path / "checkpoints" / "m" / "weights").write_bytes(b"12345")
    (tmp_path / "checkpoints" / ".pull-m-xyz").mkdir()
    (tmp_path / "checkpoints" / "m.lock").touch()
    assert looking.own_contents(tmp_path) == {"checkpoints/m": 5}
    blobs = tmp_path / "models--Qwen--Qwen2.5-0.5B--x" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(b"123")
    (blobs.parent / "snapshots").symlink_to(blobs)
    (tmp_path / "models--other--model").mkdir()
    assert looking.hub_contents(tmp_path) == {"Qwen/Qwen2.5-0.5B--x": 3}


def test_the_hub(monkeypatch):
    class Client:
        def __init__(self, answer):
            self.head = answer

    def refuse(*_, **__):
        raise HTTPError("no route")

    def hang(*_, **__):
        over.wait(10)
        refuse()

    over = threading.Event()
    monkeypatch.setattr(looking, "HUB_TIMEOUT_S", 0.2)
    assert looking.ask_hub() == "off"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for answer, state in (
        (lambda *_, **__: SimpleNamespace(is_error=False), "reachable"),
        (lambda *_, **__: SimpleNamespace(is_error=True), "out of reach"),
        (refuse, "out of reach"),
        (hang, "out of reach"),
    ):
        monkeypatch.setattr(looking, "get_session", lambda answer=answer: Client(answer))
        assert looking.ask_hub() == state
    over.set()


def test_a_library_that_does_not_load(monkeypatch, tmp_path):
    broken = tmp_path / "library.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(library, "PATH", broken)
    library.load.cache_clear()
    built, kernels, error = looking.examine_engine()
    assert (built, kernels) == (True, None)
    assert error
    library.load.cache_clear()


def test_kernels_that_are_asked_for_by_name(monkeypatch):
    monkeypatch.setenv(VARIABLE, "portable")
    assert looking.examine_engine() == (True, "portable", None)
    monkeypatch.setenv(VARIABLE, "fast")
    built, kernels, error = looking.examine_engine()
    assert (built, kernels) == (True, None)
    told = [
        (level, advice) for level, what, advice in advise(healthy(kernels=None, engine_error=error)) if "fast" in what
    ]
    assert told == [("problem", f"correct or unset {VARIABLE}")]


def test_kernels_that_compute_other_numbers_are_named():
    told = engine_line(replace(HEALTHY, kernels="avx512", differing_kernels=["amx"]))
    assert told == "built, avx512 kernels; left out, since they compute other numbers here: amx"
    assert engine_line(HEALTHY) == "built, avx2 kernels"


def test_a_library_of_another_version(monkeypatch):
    def refuse():
        raise EngineError("built from another version")

    monkeypatch.setattr(library, "load", refuse)
    assert looking.examine_engine() == (True, None, "built from another version")


# -- the command ------------------------------------------------------------------------------------------------


def test_on_this_machine(run, tiny_checkpoint):
    result = run("doctor", "--model", tiny_checkpoint)
    assert result.exit_code == 0
    assert "runs here" in result.stdout
    assert "(auto)" in result.stdout


def test_for_machines(run, tiny_checkpoint):
    report = json.loads(run("doctor", "--model", tiny_checkpoint, "--json").stdout)
    assert report["usable"]
    assert report["engine"]["name"] in (CPU_ENGINE, "torch")
    assert report["folder"] == str(tiny_checkpoint)
    assert report["facts"]["read_bandwidth"] > 1e8
    assert [fit["precision"] for fit in report["fits"]] == list(PRECISIONS)


def test_a_gguf_file_is_judged_as_it_is(run, tiny_checkpoint, tmp_path):
    pytest.importorskip("gguf")
    from tests.unit_tests.checkpoints.gguf_files import write_gguf

    file = write_gguf(tiny_checkpoint, tmp_path / "tiny.gguf")
    result = run("doctor", "--model", file, "--json")
    (fit,) = json.loads(result.stdout)["fits"]  # no other precision can be asked for
    assert (fit["precision"], fit["runs_on"]) == ("gguf", CPU_ENGINE)
    # fp32 throughout
    assert fit["weight_bytes"] == 4 * Architecture.from_config(resolve(str(file)).config).read_per_token
    assert "gguf (auto)" in run("doctor", "--model", file).stdout


def test_the_exit_code_says_that_a_model_cannot_be_used(run, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    result = run("doctor", "--model", "Qwen/Qwen2.5-7B-Instruct")
    assert result.exit_code == 1
    assert "HF_HUB_OFFLINE is set" in " ".join(result.stdout.split())
    assert "cannot be used" in result.stdout
    broken = run("doctor", "--model", tmp_path, "--json")
    assert broken.exit_code == 1
    assert not json.loads(broken.stdout)["usable"]


def test_what_is_to_be_copied_is_in_one_line(run, monkeypatch):
    """Also where the terminal is narrow: tables are cut there, remedies are not."""
    monkeypatch.setenv("COLUMNS", "40")
    result = run("doctor", "--model", "Qwen/Qwen2.5-1.5B-Instruct")
    assert result.exit_code == 1
    assert "→ run `langchain-qwen pull coder-1.5b` and use that model" in result.stdout


def test_help_keeps_what_stands_in_brackets(run):
    assert 'extra "gptq"' in " ".join(run("quantize", "--help").stdout.split())
