"""What this machine has: hardware, packages, disks, and whether the hub answers."""

from __future__ import annotations

import platform
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HTTPError

from langchain_qwen.checkpoints import cache_root
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.cores import usable_cores
from langchain_qwen.engine.runners.cpu.kernels import choose, tables
from langchain_qwen.errors import ConfigurationError, EngineError

PACKAGES = (
    *("langchain-qwen", "langchain-core", "torch", "transformers", "tokenizers", "tiktoken", "safetensors"),
    *("huggingface-hub", "llguidance", "numpy"),
)
EXTRAS = {
    **{"agents": ("langchain",), "gptq": ("optimum", "gptqmodel"), "bnb": ("bitsandbytes", "accelerate")},
    "vllm": ("vllm",),
}
# The instructions that matter for products of low-precision numbers, as Linux names them on x86 and on ARM.
INSTRUCTION_SETS = {
    **{"avx2": "AVX2", "avx_vnni": "AVX-VNNI", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI"},
    **{"avx512_bf16": "AVX-512 BF16", "amx_int8": "AMX INT8", "amx_bf16": "AMX BF16", "asimd": "NEON"},
    **{"asimddp": "NEON dot product", "i8mm": "I8MM", "bf16": "ARM BF16", "sve": "SVE"},
}
PROBE_BYTES, PROBES = 1 << 28, 12  # well above any cache; other programs slow some of the passes down
HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """An accelerator that torch can use. Bytes; None where they cannot be told."""

    name: str
    memory_total: int | None
    memory_free: int | None


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder with models: their names and bytes, and what the disk has left."""

    folder: str
    contents: dict[str, int]
    disk_free: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Sizes are bytes, speeds bytes a second, None is missing; memory and cores are those that this process may use.

    `engine_error` says why the CPU engine that was built does not load. `hub_state` is "reachable", "off"
    (HF_HUB_OFFLINE is set) or "out of reach".
    """

    system: str
    cpu: str
    instruction_sets: list[str]
    physical_cores: int
    usable_cores: int
    memory_total: int
    memory_free: int
    read_bandwidth: float
    gpus: list[Gpu]
    nvidia_driver: bool
    engine_built: bool
    kernels: str | None
    engine_error: str | None
    differing_kernels: list[str]
    torch_build: str | None
    torch_threads: int | None
    packages: dict[str, str | None]
    extras: dict[str, bool]
    own_cache: Cache
    hub_cache: Cache
    hub: str
    hub_state: str


def look() -> Facts:
    """Look around, for some seconds: measures the memory, imports torch if it is there, asks the hub."""
    cpu, instruction_sets = read_cpuinfo(Path("/proc/cpuinfo"))
    total, free = read_memory(Path("/sys/fs/cgroup"))
    built, kernels, error = examine_engine()
    torch = _torch()
    return Facts(
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        cpu=cpu,
        instruction_sets=instruction_sets,
        physical_cores=psutil.cpu_count(logical=False) or 1,
        usable_cores=usable_cores(),
        memory_total=total,
        memory_free=free,
        read_bandwidth=measure_bandwidth(),
        gpus=_gpus(torch) if torch else [],
        nvidia_driver=Path("/proc/driver/nvidia/version").exists(),
        engine_built=built,
        kernels=kernels,
        engine_error=error,
        differing_kernels=[] if kernels is None else [t.name for t in tables() if t.runs and not t.proven],
        torch_build=_build(torch) if torch else None,
        torch_threads=torch.get_num_threads() if torch else None,
        packages={name: _version(name) for name in PACKAGES},
        extras={extra: all(map(_version, names)) for extra, names in EXTRAS.items()},
        own_cache=_cache(cache_root(), own_contents),
        hub_cache=_cache(Path(constants.HF_HUB_CACHE), hub_contents),
        hub=constants.ENDPOINT,
        hub_state=ask_hub(),
    )


def read_cpuinfo(path: Path) -> tuple[str, list[str]]:
    """Name and instruction sets of the CPU; where Linux does not tell, what torch and Python know."""
    if not path.exists():
        torch = _torch()
        return platform.processor() or platform.machine(), [torch.backends.cpu.get_cpu_capability()] if torch else []
    fields: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name") or platform.machine(), [n for flag, n in INSTRUCTION_SETS.items() if flag in flags]


def read_memory(cgroup: Path) -> tuple[int, int]:
    """Total and free bytes of the machine, or what the container (cgroup v2) leaves of them."""
    memory = psutil.virtual_memory()
    total, free = int(memory.total), int(memory.available)
    try:
        limit, used = (int((cgroup / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
    except (OSError, ValueError):  # no such file, or "max"
        return total, free
    return min(total, limit), max(0, min(free, limit - used))


def measure_bandwidth() -> float:
    """Bytes a second, the best of some passes over memory by all cores; it bounds how fast any model answers."""
    cores, fastest = usable_cores(), float("inf")
    parts = np.array_split(np.ones(PROBE_BYTES // 8), cores)
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(PROBES):
            start = time.perf_counter()
            list(pool.map(np.sum, parts))
            fastest = min(fastest, time.perf_counter() - start)
    return PROBE_BYTES / fastest


def examine_engine() -> tuple[bool, str | None, str | None]:
    """Whether the CPU engine was built, its kernels for this CPU, and why it does not load."""
    if not library.available():
        return False, None, None
    try:
        return True, choose(), None
    except (OSError, ConfigurationError, EngineError) as error:
        return True, None, str(error)


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        return None
    return torch


def _build(torch: Any) -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else "cpu"


def _gpus(torch: Any) -> list[Gpu]:
    if torch.backends.mps.is_available():
        return [Gpu("Apple GPU", None, None)]
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return [Gpu(torch.cuda.get_device_name(gpu), *reversed(torch.cuda.mem_get_info(gpu))) for gpu in gpus]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def own_contents(folder: Path) -> dict[str, int]:
    """Pulled checkpoints and packed weights, by their paths in the folder; half-made ones are not shown."""
    entries = sorted(path for path in folder.glob("*/*") if path.suffix != ".lock" and not path.name.startswith("."))
    return {entry.relative_to(folder).as_posix(): size_of(entry) for entry in entries}


def hub_contents(folder: Path) -> dict[str, int]:
    """The Qwen models in the hub client's cache; it keeps files as blobs and links to them from snapshots."""
    found = {entry.name.removeprefix("models--").replace("--", "/", 1): entry for entry in folder.glob("models--*")}
    return {name: size_of(entry / "blobs") for name, entry in sorted(found.items()) if "qwen" in name.lower()}


def _cache(folder: Path, contents_of: Callable[[Path], dict[str, int]]) -> Cache:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return Cache(str(folder), contents_of(folder), shutil.disk_usage(existing).free)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def ask_hub() -> str:
    """Whether the hub answers within a few seconds; see `Facts`."""
    if constants.HF_HUB_OFFLINE:
        return "off"
    answered = threading.Event()

    def ask() -> None:
        try:
            response = get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
        except (HTTPError, OSError):
            return
        if not response.is_error:  # a proxy may answer for a hub that it does not let through
            answered.set()

    # On a thread, since looking up a name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_S)
    return "reachable" if answered.is_set() else "out of reach"
