"""Versions, extras, torch's build and our own CPU engine."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

import torch

from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.errors import EngineError

PACKAGES = (
    "langchain-qwen",
    "langchain-core",
    "torch",
    "transformers",
    "tokenizers",
    "tiktoken",
    "safetensors",
    "huggingface-hub",
    "llguidance",
    "numpy",
)
EXTRAS = {"agents": ("langchain",), "gptq": ("optimum", "gptqmodel"), "bnb": ("bitsandbytes", "accelerate")}


@dataclass(frozen=True, slots=True)
class CpuEngine:
    """The native library. `kernels` names its code path for this CPU; `error` says why it does not load."""

    built: bool
    kernels: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Software:
    """What is installed.

    Attributes:
        versions: Of the packages that matter; None where one is missing.
        extras: Of the packages of each extra.
        torch_build: "cpu", or what GPU platform torch was built for.
        cpu_engine: The native library.
    """

    versions: dict[str, str | None]
    extras: dict[str, dict[str, str | None]]
    torch_build: str
    cpu_engine: CpuEngine


def examine_software() -> Software:
    """Look at what is installed."""
    return Software(
        versions={name: _version(name) for name in PACKAGES},
        extras={extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()},
        torch_build=_torch_build(),
        cpu_engine=_cpu_engine(),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _torch_build() -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else "cpu"


def _cpu_engine() -> CpuEngine:
    if not library.available():
        return CpuEngine(built=False)
    try:
        return CpuEngine(built=True, kernels=library.load().lq_best_kernels().decode())
    except EngineError as error:
        return CpuEngine(built=True, error=str(error))
