"""What would be chosen for a model here, what stands in its way, what would be slow, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from langchain_qwen.checkpoints import RELEASES, choose_device, choose_precision, resolve
from langchain_qwen.checkpoints.quantisation import PREQUANTIZED
from langchain_qwen.cli.doctor.facts import Facts, look
from langchain_qwen.cli.doctor.fit import (
    BITSANDBYTES,
    CPU_ENGINE,
    KNOWN,
    PRECISIONS,
    TORCH,
    Architecture,
    Fit,
    fit,
    runner,
)
from langchain_qwen.engine.runners.cpu.kernels import VARIABLE
from langchain_qwen.errors import CheckpointError, ModelNotFoundError

BF16_INSTRUCTIONS = {"AVX-512 BF16", "AMX BF16", "ARM BF16"}
LEVELS = ("problem", "slow", "hint")  # a problem stops the model, slow is slow, a hint is neither
REINSTALL = "run pip install --force-reinstall --no-deps langchain-qwen"
Finding = tuple[str, str, str]  # a level, what there is, what to do


@dataclass(frozen=True, slots=True)
class Report:
    """What there is and what would be chosen.

    Attributes:
        model: As the user named it.
        folder: Where it is; None when it is not here, or damaged.
        damage: Why it cannot be used although it is here.
        quantised: "gptq", "awq" or "gguf" for a checkpoint that is quantised already.
        device: What auto takes.
        precision: What auto takes.
        fits: Each precision; none where the model's sizes are unknown.
        facts: This machine.
    """

    model: str
    folder: str | None
    damage: str | None
    quantised: str | None
    device: str
    precision: str
    fits: list[Fit]
    facts: Facts

    @property
    def chosen(self) -> Fit | None:
        """The precision that `auto` takes."""
        return next((fit for fit in self.fits if fit.precision == self.precision), None)

    @property
    def native(self) -> bool:
        """Whether the CPU engine would run the model."""
        return self.device == "cpu" and self.facts.engine_built

    @property
    def engine(self) -> tuple[str, str]:
        """What would generate answers, and why."""
        if self.native:
            idle = "; vLLM is installed, and is for GPUs" if self.facts.extras["vllm"] else ""
            return CPU_ENGINE, f"there is no GPU{idle}"
        if self.device == "cpu":
            return TORCH, "there is no GPU, and the CPU engine was not built"
        return TORCH, f"there is {self.facts.gpus[0].name if self.facts.gpus else 'a GPU'}"


def examine(model: str) -> Report:
    """Look at everything; loads no weights and downloads nothing."""
    facts, device = look(), choose_device("auto")
    native = device == "cpu" and facts.engine_built
    folder = damage = quantised = stored_bits = None
    architecture = KNOWN.get(model)
    precisions: Sequence[str] = PRECISIONS
    try:
        checkpoint = resolve(model, local_files_only=True)
        folder = str(checkpoint.place)
        quantised = "gguf" if checkpoint.gguf else checkpoint.config.get("quantization_config", {}).get("quant_method")
        if quantised is not None and checkpoint.name not in RELEASES:  # others have their own precision alone
            precisions = ()
        if checkpoint.gguf and native:
            stored_bits = 8 * checkpoint.parameter_bytes / checkpoint.parameters
        architecture = Architecture.from_config(checkpoint.config) if precisions or stored_bits else None
    except ModelNotFoundError:
        pass
    except CheckpointError as error:
        damage = str(error)
    own = None if quantised == "gguf" and model in RELEASES and not native else quantised
    precision = own or ("int4" if native or not facts.torch_build else choose_precision("auto", device))
    judged = judge(architecture, device, facts, precisions, stored_bits) if architecture else []
    return Report(model, folder, damage, quantised, device, precision, judged, facts)


def judge(
    architecture: Architecture,
    device: str,
    facts: Facts,
    precisions: Sequence[str] = PRECISIONS,
    stored_bits: float | None = None,
) -> list[Fit]:
    """Each precision of a model on a device, first a GGUF file as it is: its numbers have `stored_bits` on average."""
    free, speed = facts.memory_free, facts.read_bandwidth if device == "cpu" else None
    if facts.gpus and facts.gpus[0].memory_free is not None:
        free = facts.gpus[0].memory_free
    found = []
    if stored_bits is not None:
        found.append(fit(architecture, "gguf", CPU_ENGINE, None, free, speed, bits=stored_bits))
    for precision in precisions:
        runs_on, missing = runner(precision, device, native=device == "cpu" and facts.engine_built), None
        if runs_on == BITSANDBYTES and not facts.extras["bnb"]:
            missing = 'pip install "langchain-qwen[bnb]"'
        elif runs_on != CPU_ENGINE and not (facts.torch_build and facts.packages.get("transformers", "")):
            missing = "pip install torch transformers"
        found.append(fit(architecture, precision, runs_on, missing, free, speed))
    return found


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB"


def advise(report: Report) -> list[Finding]:
    """All findings, problems first."""
    found = [*_model(report), *_memory(report), *_engine(report), *_vllm(report), *_torch(report)]
    return sorted(found, key=lambda finding: LEVELS.index(finding[0]))


def _model(report: Report) -> Iterator[Finding]:
    model, damage, facts = report.model, report.damage, report.facts
    if report.quantised == "gguf" and not report.native and model not in RELEASES:
        what = f"{model} is a GGUF file, which only the CPU engine runs, and it would not run here"
        yield "problem", what, "take the release in safetensors, or device='cpu' with the CPU engine"
    if report.quantised in PREQUANTIZED and not report.native and not facts.extras["gptq"]:
        what = f"{model} holds {report.quantised.upper()} weights, and what runs them is not installed"
        yield "problem", what, 'pip install "langchain-qwen[gptq]"'
    if report.folder is not None:
        return
    release = RELEASES.get(model)
    on_hub = not release and model.count("/") == 1 and model[0] not in "./~" and not Path(model).exists()
    if not (release or on_hub):
        what = damage or f"{model} is no alias, no folder with a checkpoint and no hub id"
        yield "problem", what, "`langchain-qwen pull` lists models that can be had"
    elif on_hub and facts.hub_state != "reachable":
        why = "HF_HUB_OFFLINE is set" if facts.hub_state == "off" else f"{facts.hub} is out of reach"
        what = f"{damage or f'{model} is not on this machine'}, and {why}"
        yield "problem", what, "run `langchain-qwen pull coder-1.5b` and use that model, or give the folder of another"
    else:
        size = 2 * KNOWN[model].parameters if model in KNOWN else 0
        size = 2 * release.gguf_bytes if release else size  # the file, and what is packed from it
        what = f"{model} is not on this machine yet; the first use downloads it"
        what += f" ({gigabytes(size)} on the disk)" if size else ""
        yield "hint", what, f"`langchain-qwen pull {model}` does it now"
        cache, variable = (facts.hub_cache, "HF_HOME") if on_hub else (facts.own_cache, "LANGCHAIN_QWEN_CACHE")
        if cache.disk_free < size:
            what = f"the disk of {cache.folder} has {gigabytes(cache.disk_free)} left"
            yield "problem", what, f"make room, or set {variable} to a folder on another disk"


def _memory(report: Report) -> Iterator[Finding]:
    chosen = report.chosen
    if chosen is None:
        return
    if chosen.missing:
        yield "problem", f"{report.precision} runs on {chosen.runs_on}, which is not installed", chosen.missing
    if chosen.context_tokens == 0:
        others = [fit.precision for fit in report.fits if fit.context_tokens and not fit.missing]
        smaller = f"choose --precision {others[0]}" if others else "take coder-0.5b"
        size = gigabytes(chosen.weight_bytes)
        what = f"the weights in {chosen.precision} take {size}, more memory than is free"
        yield "problem", what, f"{smaller}, or close other programs"
    elif chosen.context_tokens < chosen.window:
        full = gigabytes(chosen.weight_bytes + chosen.window_bytes)
        what = f"free memory holds {chosen.context_tokens:,} tokens of context; the whole window takes {full}"
        yield "slow", what, "close other programs, or set kv_cache_bytes, before long conversations make it swap"


def _engine(report: Report) -> Iterator[Finding]:
    facts, by_name = report.facts, {fit.precision: fit for fit in report.fits}
    if report.device != "cpu":
        return
    if not facts.engine_built:
        what = "the CPU engine was not built with this installation: models run through torch, several times slower"
        yield "slow", what, f"install a C compiler (gcc or clang) and {REINSTALL}"
    elif facts.engine_error is not None:
        mistaken = facts.engine_error.startswith(VARIABLE)
        remedy = f"correct or unset {VARIABLE}" if mistaken else f"{REINSTALL}, to build it anew"
        yield "problem", f"the CPU engine does not load: {facts.engine_error}", remedy
    elif facts.kernels == "portable":
        what = "the CPU engine has no fast kernels for this CPU (AVX2, or ARM's dot product) and runs portable code"
        yield "slow", what, "use a machine with AVX2 or a GPU, or a small model: --model coder-0.5b"
    fp32, chosen = by_name.get("fp32"), report.chosen
    if fp32 and chosen and chosen is not fp32 and fp32.tokens_per_second and chosen.tokens_per_second:
        what = (
            f"--precision fp32 reads {gigabytes(fp32.weight_bytes)} for each token: at the "
            f"{gigabytes(facts.read_bandwidth)} a second that memory gives now, at most {fp32.tokens_per_second:.1f} "
            f"tokens a second, where {chosen.precision} may reach {chosen.tokens_per_second:.1f}"
        )
        yield "slow", what, "leave --precision at auto"
    if fp32 and not report.native and not BF16_INSTRUCTIONS & set(facts.instruction_sets):
        what = "--precision bf16: without bf16 instructions torch reads prompts five times slower in it than in fp32"
        yield "slow", what, "leave --precision at auto"


def _vllm(report: Report) -> Iterator[Finding]:
    if not report.device.startswith("cuda") or report.quantised == "gguf":
        return
    what = (
        "torch would run the model on the GPU, which is right for one caller; vLLM serves many at once there (its use "
        "by this package is tested on CPUs alone)"
    )
    install = "" if report.facts.extras["vllm"] else 'pip install "langchain-qwen[vllm]", then '
    yield "hint", what, f'{install}write ChatQwen(engine="vllm")'


def _torch(report: Report) -> Iterator[Finding]:
    facts, threads, cores = report.facts, report.facts.torch_threads, report.facts.usable_cores
    if threads is not None and threads != cores and not report.native:
        effect = "they wait for one another" if threads > cores else "the others idle"
        what = f"torch runs {threads} threads on {cores} usable cores: {effect}"
        yield "slow", what, f"set OMP_NUM_THREADS={cores}"
    if facts.gpus:
        return
    if facts.nvidia_driver:
        what = f"there is an NVIDIA driver, but torch (build: {facts.torch_build or 'none'}) sees no GPU"
        yield "slow", what, "install the torch build for the driver's CUDA version"
    elif facts.torch_build not in (None, "cpu"):
        what = f"torch is built for {facts.torch_build}, and there is no GPU: it works, and wastes gigabytes"
        without = "; int4, int8 and bf16 need no torch at all" if report.native else ""
        yield "hint", what, f"in a new environment, uv pip install --torch-backend=cpu langchain-qwen{without}"
