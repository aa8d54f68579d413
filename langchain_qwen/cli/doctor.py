"""`langchain-qwen doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from langchain_qwen._version import __version__
from langchain_qwen.checkpoints import cache_root, choose_device, choose_precision, resolve
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.cores import usable_cores
from langchain_qwen.errors import CheckpointError

PACKAGES = ("torch", "transformers", "langchain-core", "tokenizers", "tiktoken", "llguidance", "safetensors")
EXTRAS = {"agents": ["langchain"], "gptq": ["optimum", "gptqmodel"], "bnb": ["bitsandbytes"]}
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
LOW_MEMORY = 2 << 30


def run(model: str, *, as_json: bool) -> None:
    """Print what was found; exit code 1 when the model cannot be used."""
    facts, warnings, usable = examine(model)
    if as_json:
        sys.stdout.write(json.dumps({"facts": facts, "warnings": warnings, "usable": usable}, indent=1) + "\n")
    else:
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in facts.items():
            table.add_row(f"[bold]{name}[/]", str(value))
        console = Console()
        console.print(table)
        for warning in warnings:
            console.print(f"[yellow]![/] {warning}", highlight=False)
        if not warnings:
            console.print("[green]Nothing to complain about.[/]")
    if not usable:
        sys.exit(1)


def examine(model: str) -> tuple[dict[str, Any], list[str], bool]:
    """Facts, warnings with what to do, and whether `model` can be used as things are."""
    memory = psutil.virtual_memory()
    device = choose_device("auto")
    native = device == "cpu" and library.available()
    precision = "int4" if native else choose_precision("auto", device)
    cache = cache_root()
    facts: dict[str, Any] = {
        "langchain-qwen": __version__,
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in PACKAGES},
        "extras": ", ".join(extra for extra, modules in EXTRAS.items() if all(map(_installed, modules))) or "none",
        "processor": f"{_processor()} ({', '.join(_flags()) or 'no vector extensions known'})",
        "cores": f"{usable_cores()} usable of {psutil.cpu_count(logical=False)}",
        "memory": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "device": device,
        "precision": f"{precision} (auto)",
        "engine": f"native CPU kernels ({library.load().lq_best_kernels().decode()})" if native else "torch",
        "cache": f"{cache} ({_free(cache) / 1e9:.0f} GB free)",
        "pulled": ", ".join(sorted(p.name for p in (cache / "checkpoints").glob("[!.]*") if p.is_dir())) or "nothing",
    }
    warnings = []
    if device == "cpu" and not native:
        warnings.append(
            "The native CPU engine was not built (no C compiler at installation): answers will be several times "
            "slower. Install a C compiler and reinstall langchain-qwen."
        )
    if native and "avx2" not in _flags() and platform.machine() in ("x86_64", "AMD64"):
        warnings.append("This processor has no AVX2: the portable kernels will be slow.")
    if memory.available < LOW_MEMORY:
        warnings.append("Less than 2 GiB of memory are free: close something, or use coder-0.5b.")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and not native and threads.isdigit() and int(threads) > usable_cores():
        warnings.append(f"OMP_NUM_THREADS={threads} is more than the {usable_cores()} cores: torch will be slower.")
    if torch.version.cuda and not torch.cuda.is_available():
        warnings.append("torch was built for CUDA but sees no GPU: check the driver, or install torch's CPU build.")
    try:
        checkpoint = resolve(model, local_files_only=True)
    except CheckpointError as error:
        return facts | {"model": f"{model}: not usable"}, [*warnings, str(error)], False
    return facts | {"model": f"{model}: {checkpoint.path}"}, warnings, True


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> list[str]:
    present = set(_cpuinfo("flags").split())
    return [flag for flag in CPU_FLAGS if flag in present]


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
