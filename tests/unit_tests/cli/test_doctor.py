from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError

from langchain_qwen.checkpoints import RELEASES
from langchain_qwen.cli.doctor import machine, software, storage
from langchain_qwen.cli.doctor.advice import advise
from langchain_qwen.cli.doctor.fit import BITS, CPU_ENGINE, KNOWN, PRECISIONS, QWEN_1_5B, Architecture, fits, runner
from langchain_qwen.cli.doctor.machine import Gpu, Machine, Memory
from langchain_qwen.cli.doctor.report import Model, Report
from langchain_qwen.cli.doctor.software import CpuEngine, Software
from langchain_qwen.cli.doctor.storage import Cache, Hub, Storage
from langchain_qwen.engine.loading import runs_natively
from langchain_qwen.engine.runners.cpu import library, packing
from langchain_qwen.engine.runners.cpu.packing import DEFAULT_GROUP
from langchain_qwen.engine.runners.cpu.weights import FORMATS

GB = 10**9
BANDWIDTH = 16e9


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path / "own"))


def healthy(*, free: int = 12 * GB, native: bool = True) -> Report:
    """A machine on which nothing is wrong."""
    architecture = QWEN_1_5B
    return Report(
        model=Model("coder-1.5b", "/models/coder-1.5b", None, from_hub=False, download_bytes=0),
        device="cpu",
        precision="int4" if native else "fp32",
        fits=fits(architecture, device="cpu", native=native, bitsandbytes=False, free=free, bandwidth=BANDWIDTH),
        machine=Machine("Linux", "CPU", 4, 4, ["AVX2"], BANDWIDTH, Memory(16 * GB, free), [], False, None, 4),
        software=Software({}, {}, "cpu", CpuEngine(built=native, kernels="avx2" if native else None)),
        storage=Storage(Cache("/own", {}, 90 * GB), Cache("/hub", {}, 90 * GB), Hub("the hub", "reachable")),
    )


def levels(report: Report, words: str) -> list[str]:
    """Levels of the findings that hold these words."""
    return [finding.level for finding in advise(report) if words in finding.what]


# -- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", RELEASES)
def test_parameters_are_those_of_the_releases(alias):
    assert KNOWN[alias].parameters == RELEASES[alias].parameters


def test_sizes_are_those_of_the_loaded_model(tiny_checkpoint):
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(tiny_checkpoint)
    architecture = Architecture.from_config(model.config.to_dict())
    assert architecture.parameters == sum(p.numel() for p in model.parameters())
    untied = replace(architecture, tied=False)
    assert untied.parameters - architecture.parameters == model.lm_head.weight.numel()


@pytest.mark.parametrize("precision", ["int4", "int8", "bf16"])
def test_packed_sizes_are_those_of_the_cpu_engine(precision):
    a = QWEN_1_5B
    kv = a.kv_heads * a.hidden // a.heads
    shapes = [(a.hidden + 2 * kv, a.hidden), (a.hidden, a.hidden), (2 * a.ffn, a.hidden), (a.hidden, a.ffn)]
    shapes = [*shapes * a.layers, (a.vocab, a.hidden)]
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
    by_name = {fit.precision: fit for fit in healthy(free=3 * GB).fits}
    assert by_name["int4"].context_tokens == 32_768
    assert by_name["fp32"].context_tokens == 0
    weights = BITS["fp16"] // 8 * QWEN_1_5B.parameters
    fp16 = next(fit for fit in healthy(free=weights + 1000 * 28_672).fits if fit.precision == "fp16")
    assert fp16.context_tokens == 1000


def test_int8_and_int4_through_torch_need_an_extra():
    by_name = {fit.precision: fit for fit in healthy(native=False).fits}
    assert [p for p in PRECISIONS if by_name[p].missing] == ["int4", "int8"]
    assert "bnb" in by_name["int4"].missing


# -- advice -----------------------------------------------------------------------------------------------------


def test_a_healthy_machine_hears_of_slow_precisions_only():
    findings = advise(healthy())
    assert [finding.level for finding in findings] == ["slow"]
    assert "--precision fp32 reads 6.2 GB" in findings[0].what
    assert "at most 2.6 tokens a second, where int4 may reach 18.4" in findings[0].what


@pytest.mark.parametrize(("state", "level"), [("off", "problem"), ("out of reach", "problem"), ("reachable", "hint")])
def test_a_hub_model_that_is_not_here(state, level):
    report = healthy()
    model = Model("Qwen/Qwen2.5-1.5B-Instruct", None, None, from_hub=True, download_bytes=3 * GB)
    report = replace(report, model=model, storage=replace(report.storage, hub=Hub("the hub", state)))
    assert levels(report, "is not on this machine") == [level]


def test_an_alias_that_is_not_here_needs_no_hub():
    report = healthy()
    model = Model("coder-1.5b", None, None, from_hub=False, download_bytes=4 * GB)
    report = replace(report, model=model, storage=replace(report.storage, hub=Hub("the hub", "off")))
    assert levels(report, "the first use downloads it (4.0 GB on the disk)") == ["hint"]
    full = replace(report, storage=replace(report.storage, own=Cache("/own", {}, 2 * GB)))
    assert levels(full, "/own has 2.0 GB left") == ["problem"]


def test_a_damaged_checkpoint():
    report = replace(healthy(), model=Model("./m", None, "m lacks config.json", from_hub=False, download_bytes=None))
    assert levels(report, "m lacks config.json") == ["problem"]


@pytest.mark.parametrize(
    ("native", "version", "expected"), [(True, None, []), (False, None, ["problem"]), (False, "7.0", [])]
)
def test_a_quantised_checkpoint_needs_an_extra_where_torch_runs_it(native, version, expected):
    report = healthy(native=native)
    report = replace(report, model=replace(report.model, quantised="gptq"), precision="gptq", fits=[])
    extras = {"gptq": {"optimum": "2.0", "gptqmodel": version}}
    report = replace(report, software=replace(report.software, extras=extras))
    assert levels(report, "GPTQ weights") == expected


def test_little_memory():
    assert levels(healthy(free=GB), "free memory holds") == ["slow"]
    assert levels(healthy(free=GB // 2), "more memory than is free") == ["problem"]
    assert levels(healthy(free=12 * GB), "memory") == ["slow"]  # that of the slow precisions


def test_the_cpu_engine():
    assert levels(healthy(native=False), "was not built") == ["slow"]
    report = healthy()
    for engine, words, level in (
        (CpuEngine(built=True, error="wrong ELF class"), "wrong ELF class", "problem"),
        (CpuEngine(built=True, kernels="portable"), "portable code", "slow"),
    ):
        assert levels(replace(report, software=replace(report.software, cpu_engine=engine)), words) == [level]


def test_bf16_through_torch():
    report = healthy(native=False)
    assert levels(report, "bf16") == ["slow"]
    fast = replace(report, machine=replace(report.machine, instruction_sets=["AVX2", "AMX BF16"]))
    assert levels(fast, "bf16") == []


@pytest.mark.parametrize(("threads", "variable", "level"), [(16, "16", "slow"), (1, "1", "slow"), (2, None, "hint")])
def test_threads(threads, variable, level):
    report = healthy()
    changed = replace(report, machine=replace(report.machine, torch_threads=threads, omp_num_threads=variable))
    assert levels(changed, f"torch runs {threads} threads on 4 usable cores") == [level]


def test_gpus():
    report = healthy()
    cuda = replace(report, software=replace(report.software, torch_build="CUDA 13.0"))
    assert levels(cuda, "there is no GPU") == ["hint"]
    driver = replace(report, machine=replace(report.machine, nvidia_driver=True))
    assert levels(driver, "sees no GPU") == ["slow"]
    used = replace(cuda, device="cuda", machine=replace(report.machine, gpus=[Gpu("G", 8 * GB, 8 * GB)]))
    assert advise(used) == []


# -- looking ----------------------------------------------------------------------------------------------------


def test_cpuinfo(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu avx2 avx512f amx_bf16\n\nprocessor\t: 1\n")
    assert machine.read_cpuinfo(file) == ("Fast CPU", ["AVX2", "AVX-512", "AMX BF16"])
    file.write_text("processor\t: 0\nFeatures\t: fp asimd i8mm\n")
    assert machine.read_cpuinfo(file)[1] == ["NEON", "I8MM"]
    assert all(machine.read_cpuinfo(tmp_path / "none"))


def test_memory_of_a_container(tmp_path):
    outside = machine.read_memory(tmp_path)
    (tmp_path / "memory.current").write_text("600000\n")
    for limit, expected in (("1000000\n", Memory(1_000_000, 400_000)), ("500000\n", Memory(500_000, 0))):
        (tmp_path / "memory.max").write_text(limit)
        assert machine.read_memory(tmp_path) == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.read_memory(tmp_path).total == outside.total


def test_caches(tmp_path):
    (tmp_path / "checkpoints" / "m").mkdir(parents=True)
    (tmp_path / "checkpoints" / "m" / "weights").write_bytes(b"12345")
    (tmp_path / "checkpoints" / ".pull-m-xyz").mkdir()
    (tmp_path / "checkpoints" / "m.lock").touch()
    assert storage.own_contents(tmp_path) == {"checkpoints/m": 5}
    blobs = tmp_path / "models--Qwen--Qwen2.5-0.5B--x" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(b"123")
    (blobs.parent / "snapshots").symlink_to(blobs)
    (tmp_path / "models--other--model").mkdir()
    assert storage.hub_contents(tmp_path) == {"Qwen/Qwen2.5-0.5B--x": 3}


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
    monkeypatch.setattr(storage, "HUB_TIMEOUT_S", 0.2)
    assert storage.ask_hub().state == "off"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for answer, state in (
        (lambda *_, **__: SimpleNamespace(is_error=False), "reachable"),
        (lambda *_, **__: SimpleNamespace(is_error=True), "out of reach"),
        (refuse, "out of reach"),
        (hang, "out of reach"),
    ):
        monkeypatch.setattr(storage, "get_session", lambda answer=answer: Client(answer))
        assert storage.ask_hub().state == state
    over.set()


def test_a_library_that_does_not_load(monkeypatch, tmp_path):
    broken = tmp_path / "library.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(library, "PATH", broken)
    library.load.cache_clear()
    engine = software.examine_software().cpu_engine
    assert engine.built
    assert engine.error
    library.load.cache_clear()


# -- the command ------------------------------------------------------------------------------------------------


def test_on_this_machine(run, tiny_checkpoint):
    result = run("doctor", "--model", tiny_checkpoint)
    assert result.exit_code == 0
    assert "runs here" in result.stdout
    assert "(auto)" in result.stdout


def test_for_machines(run, tiny_checkpoint):
    report = json.loads(run("doctor", "--model", tiny_checkpoint, "--json").stdout)
    assert report["usable"]
    assert report["model"]["folder"] == str(tiny_checkpoint)
    assert report["machine"]["read_bandwidth"] > 1e8
    assert [fit["precision"] for fit in report["fits"]] == list(PRECISIONS)


def test_the_exit_code_says_that_a_model_cannot_be_used(run, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    result = run("doctor", "--model", "Qwen/Qwen2.5-7B-Instruct")
    assert result.exit_code == 1
    assert "HF_HUB_OFFLINE is set" in " ".join(result.stdout.split())
    assert "cannot be used" in result.stdout
    broken = run("doctor", "--model", tmp_path, "--json")
    assert broken.exit_code == 1
    assert not json.loads(broken.stdout)["usable"]
