"""The hardware, as far as it decides how a model runs."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from langchain_qwen.engine.runners.cpu.cores import usable_cores

CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

# The instructions that matter for products of low-precision numbers, as Linux names them on x86 and on ARM.
INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "I8MM",
    "bf16": "ARM BF16",
    "sve": "SVE",
}
PROBE_BYTES = 1 << 28  # well above any cache
PROBES = 12  # other programs slow some of them down


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, within the container's limit if there is one."""

    total: int
    available: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """An accelerator that torch can use. Bytes; None where they cannot be told."""

    name: str
    memory_total: int | None
    memory_available: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is.

    Attributes:
        system: Operating system and Python.
        cpu: Its name.
        physical_cores: Of the machine.
        usable_cores: Those that this process may use.
        instruction_sets: Those that speed up models.
        read_bandwidth: Bytes a second that the CPU reads from memory, measured.
        memory: Main memory.
        gpus: Accelerators.
        nvidia_driver: Whether there is one, whatever torch makes of it.
        omp_num_threads: The environment variable that sets torch's threads.
        torch_threads: How many torch runs.
    """

    system: str
    cpu: str
    physical_cores: int
    usable_cores: int
    instruction_sets: list[str]
    read_bandwidth: float
    memory: Memory
    gpus: list[Gpu]
    nvidia_driver: bool
    omp_num_threads: str | None
    torch_threads: int


def examine_machine() -> Machine:
    """Look, and measure the memory's speed for some tenths of a second."""
    cpu, instruction_sets = read_cpuinfo(CPUINFO)
    return Machine(
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        cpu=cpu,
        physical_cores=psutil.cpu_count(logical=False) or 1,
        usable_cores=usable_cores(),
        instruction_sets=instruction_sets,
        read_bandwidth=measure_bandwidth(),
        memory=read_memory(CGROUP),
        gpus=_gpus(),
        nvidia_driver=NVIDIA_DRIVER.exists(),
        omp_num_threads=os.environ.get("OMP_NUM_THREADS"),
        torch_threads=torch.get_num_threads(),
    )


def read_cpuinfo(path: Path) -> tuple[str, list[str]]:
    """Name and instruction sets; where Linux does not tell, what torch and Python know."""
    if not path.exists():
        return platform.processor() or platform.machine(), [torch.backends.cpu.get_cpu_capability()]
    fields: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    name = fields.get("model name") or platform.machine()
    return name, [label for flag, label in INSTRUCTION_SETS.items() if flag in flags]


def read_memory(cgroup: Path) -> Memory:
    """The machine's memory, or what the container (cgroup v2) leaves of it."""
    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or "max"
        return Memory(total, available)
    return Memory(min(total, limit), max(0, min(available, limit - used)))


def measure_bandwidth() -> float:
    """Bytes a second, the best of some passes over memory; it bounds how fast any model answers on the CPU."""
    numbers = torch.ones(PROBE_BYTES // 4)
    fastest = float("inf")
    for _ in range(PROBES):
        start = time.perf_counter()
        numbers.sum()
        fastest = min(fastest, time.perf_counter() - start)
    return PROBE_BYTES / fastest


def _gpus() -> list[Gpu]:
    if torch.cuda.is_available():
        found = []
        for index in range(torch.cuda.device_count()):
            available, total = torch.cuda.mem_get_info(index)
            found.append(Gpu(torch.cuda.get_device_name(index), total, available))
        return found
    if torch.backends.mps.is_available():
        return [Gpu("Apple GPU", None, None)]
    return []
