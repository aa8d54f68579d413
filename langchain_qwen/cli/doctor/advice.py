"""What stands in the way, what would be slow, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from langchain_qwen.checkpoints import RELEASES
from langchain_qwen.cli.doctor.fit import CPU_ENGINE
from langchain_qwen.cli.doctor.report import Report

BF16_INSTRUCTIONS = {"AVX-512 BF16", "AMX BF16", "ARM BF16"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know: a problem stops the model, slow is slow, a hint is neither."""

    level: Literal["problem", "slow", "hint"]
    what: str
    todo: str


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB"


def advise(report: Report) -> list[Finding]:
    """All findings, problems first."""
    found = [*_model(report), *_memory(report), *_cpu_engine(report), *_slow_precisions(report)]
    found += [*_threads(report), *_gpu(report)]
    return sorted(found, key=lambda finding: ("problem", "slow", "hint").index(finding.level))


def _model(report: Report) -> Iterator[Finding]:
    model, hub = report.model, report.storage.hub
    native = report.device == "cpu" and report.software.cpu_engine.built
    if model.quantised and not native and not all(report.software.extras["gptq"].values()):
        yield Finding(
            "problem",
            f"{model.name} holds {model.quantised.upper()} weights, and what runs them is not installed",
            'pip install "langchain-qwen[gptq]"',
        )
    if model.folder is not None:
        return
    if model.from_hub and hub.state != "reachable":
        why = "HF_HUB_OFFLINE is set" if hub.state == "off" else f"{hub.address} is out of reach"
        yield Finding(
            "problem",
            f"{model.damage or f'{model.name} is not on this machine'}, and {why}",
            "run `langchain-qwen pull coder-1.5b` and use that model, or give the folder of a checkpoint",
        )
    elif model.from_hub or model.name in RELEASES:
        size = "" if model.download_bytes is None else f" ({gigabytes(model.download_bytes)} on the disk)"
        yield Finding(
            "hint",
            f"{model.name} is not on this machine yet; the first use downloads it{size}",
            f"`langchain-qwen pull {model.name}` does it now",
        )
        cache = report.storage.hub_cache if model.from_hub else report.storage.own
        if model.download_bytes is not None and cache.disk_free < model.download_bytes:
            variable = "HF_HOME" if model.from_hub else "LANGCHAIN_QWEN_CACHE"
            yield Finding(
                "problem",
                f"the disk of {cache.folder} has {gigabytes(cache.disk_free)} left",
                f"make room, or set {variable} to a folder on another disk",
            )
    else:
        what = model.damage or f"{model.name} is no alias, no folder with a checkpoint and no hub id"
        yield Finding("problem", what, "`langchain-qwen pull` lists models that can be had")


def _memory(report: Report) -> Iterator[Finding]:
    chosen = report.chosen
    if chosen is None:
        return
    full = chosen.weight_bytes + chosen.window_bytes
    if chosen.context_tokens == 0:
        others = [fit.precision for fit in report.fits if fit.context_tokens and not fit.missing]
        smaller = f"choose --precision {others[0]}, or" if others else "take coder-0.5b, or"
        yield Finding(
            "problem",
            f"the weights in {chosen.precision} take {gigabytes(chosen.weight_bytes)}, more memory than is free",
            f"{smaller} close other programs",
        )
    elif chosen.context_tokens < chosen.window:
        yield Finding(
            "slow",
            f"free memory holds {chosen.context_tokens:,} tokens of context; the whole window takes {gigabytes(full)}",
            "close other programs, or set kv_cache_bytes, before long conversations make the system swap",
        )


def _cpu_engine(report: Report) -> Iterator[Finding]:
    engine = report.software.cpu_engine
    if report.device != "cpu":
        return
    if not engine.built:
        yield Finding(
            "slow",
            "the CPU engine was not built with this installation: models run through torch, several times slower",
            "install a C compiler (gcc or clang) and run pip install --force-reinstall --no-deps langchain-qwen",
        )
    elif engine.error is not None:
        yield Finding(
            "problem",
            f"the CPU engine does not load: {engine.error}",
            "run pip install --force-reinstall --no-deps langchain-qwen, so that it is built for this system",
        )
    elif engine.kernels == "portable":
        yield Finding(
            "slow",
            "the CPU engine has no fast kernels for this CPU (they need AVX2) and runs portable code",
            "use a machine with AVX2 or a GPU, or a small model: --model coder-0.5b",
        )


def _slow_precisions(report: Report) -> Iterator[Finding]:
    by_name = {fit.precision: fit for fit in report.fits}
    if report.device != "cpu" or not by_name:
        return
    fp32, chosen = by_name["fp32"], by_name[report.precision]
    if fp32.tokens_per_second and chosen.tokens_per_second and chosen is not fp32:
        yield Finding(
            "slow",
            f"--precision fp32 reads {gigabytes(fp32.weight_bytes)} for each token: at the "
            f"{gigabytes(report.machine.read_bandwidth)} a second that memory gives now, at most "
            f"{fp32.tokens_per_second:.1f} tokens a second, where {chosen.precision} may reach "
            f"{chosen.tokens_per_second:.1f}",
            "leave --precision at auto",
        )
    if by_name["bf16"].runs_on != CPU_ENGINE and not BF16_INSTRUCTIONS & set(report.machine.instruction_sets):
        yield Finding(
            "slow",
            "--precision bf16: this CPU has no bf16 instructions, so that torch reads prompts about five times slower "
            "than in fp32",
            "leave --precision at auto",
        )


def _threads(report: Report) -> Iterator[Finding]:
    machine = report.machine
    if machine.torch_threads == machine.usable_cores:
        return
    setting = f"OMP_NUM_THREADS={machine.omp_num_threads}" if machine.omp_num_threads else "torch's own choice"
    more = machine.torch_threads > machine.usable_cores
    effect = "they wait for one another" if more else "the others idle"
    yield Finding(
        "slow" if more or machine.omp_num_threads else "hint",
        f"torch runs {machine.torch_threads} threads on {machine.usable_cores} usable cores ({setting}): {effect} "
        "wherever torch computes",
        f"set OMP_NUM_THREADS={machine.usable_cores}",
    )


def _gpu(report: Report) -> Iterator[Finding]:
    if report.machine.gpus:
        return
    if report.machine.nvidia_driver:
        yield Finding(
            "slow",
            f"there is an NVIDIA driver, but torch (build: {report.software.torch_build}) sees no GPU",
            "install the torch build for the driver's CUDA version",
        )
    elif report.software.torch_build != "cpu":
        yield Finding(
            "hint",
            f"torch is built for {report.software.torch_build}, and there is no GPU: it works, and wastes gigabytes",
            "install torch's CPU build where the space matters",
        )
