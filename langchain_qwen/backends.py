"""Where a chat model's answers are generated: in this process, or at a server. Nothing above knows where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from langchain_qwen.checkpoints import Checkpoint
from langchain_qwen.checkpoints.aliases import cache_root
from langchain_qwen.engine import Engine, Request, prefixes
from langchain_qwen.engine.loading import load_engine
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.protocol import Finished, Started
from langchain_qwen.engine.sharing import Leases
from langchain_qwen.engine.vllm.loading import PRECISIONS, check_arguments, load_vllm, require_vllm
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.opening import tokenizer_of
from langchain_qwen.prompting import Tokenizer

_OF_THIS_MACHINE = ("precision", "device", "quantization_config", "kv_cache_bytes", "vllm_kwargs")


class Backend(Protocol):
    """Where answers come from."""

    def engine(self, checkpoint: Checkpoint, deadline: float | None = None) -> Engine:
        """The engine of a checkpoint, which all in this process who ask for the same one share.

        Args:
            checkpoint: Which.
            deadline: When (`time.monotonic()` seconds) to stop waiting for it.
        """
        ...

    def window(self, checkpoint: Checkpoint) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    def warm(self, checkpoint: Checkpoint, tokens: Sequence[int]) -> int:
        """Have ready what prompts begin with; how many of the tokens are."""
        ...

    def identity(self, checkpoint: Checkpoint, engine: Engine) -> dict[str, Any]:
        """Which model answers, in which form, as response metadata."""
        ...


class _LocalKey(NamedTuple):
    fingerprint: str
    precision: str
    quantization: str
    device: str
    kv_cache_bytes: int | None


@dataclass(frozen=True, slots=True)
class OnThisMachine:
    """Weights that this process loads."""

    leases: Leases
    precision: str
    device: str
    kv_cache_bytes: int | None
    quantization_config: Mapping[str, Any] | None

    def engine(self, checkpoint: Checkpoint, deadline: float | None = None) -> LocalEngine:
        """The engine, its weights loaded if need be."""
        quantization = json.dumps(self.quantization_config, sort_keys=True)
        key = _LocalKey(checkpoint.fingerprint, self.precision, quantization, self.device, self.kv_cache_bytes)
        engine = self.leases.get(
            key,
            lambda: load_engine(
                checkpoint,
                precision=self.precision,
                device=self.device,
                kv_cache_bytes=self.kv_cache_bytes,
                quantization_config=self.quantization_config,
            ),
            place=checkpoint.place,
            deadline=deadline,
        )
        return cast("LocalEngine", engine)

    def window(self, checkpoint: Checkpoint) -> int:
        """That of the checkpoint; no weights are read."""
        return checkpoint.context_window

    def warm(self, checkpoint: Checkpoint, tokens: Sequence[int]) -> int:
        """Computed once and kept in this package's cache folder."""
        return prefixes.warm(self.engine(checkpoint), tokens, cache_root() / "prefixes", checkpoint.fingerprint)

    def identity(self, checkpoint: Checkpoint, engine: Engine) -> dict[str, Any]:
        """By the weights' fingerprint and their precision."""
        return _identity(checkpoint, engine.info.precision)


class _VllmKey(NamedTuple):
    fingerprint: str
    precision: str
    kv_cache_bytes: int | None
    arguments: str


@dataclass(frozen=True, slots=True)
class InVllm:
    """Weights that vLLM loads, in this process."""

    leases: Leases
    precision: str
    kv_cache_bytes: int | None
    arguments: Mapping[str, Any]

    def engine(self, checkpoint: Checkpoint, deadline: float | None = None) -> Engine:
        """The engine; vLLM is started if need be."""
        arguments = json.dumps(self.arguments, sort_keys=True)
        return self.leases.get(
            _VllmKey(checkpoint.fingerprint, self.precision, self.kv_cache_bytes, arguments),
            lambda: load_vllm(
                checkpoint, precision=self.precision, kv_cache_bytes=self.kv_cache_bytes, arguments=self.arguments
            ),
            place=checkpoint.place,
            deadline=deadline,
        )

    def window(self, checkpoint: Checkpoint) -> int:
        """That of the checkpoint, or what vLLM is told to serve of it; it is not started."""
        told = self.arguments.get("max_model_len")
        return min(checkpoint.context_window, told) if told and told > 0 else checkpoint.context_window

    def warm(self, checkpoint: Checkpoint, tokens: Sequence[int]) -> int:
        """In vLLM's prefix cache."""
        return _warm_by_asking(self.engine(checkpoint), tokens)

    def identity(self, checkpoint: Checkpoint, engine: Engine) -> dict[str, Any]:
        """By the weights' fingerprint and their precision; vLLM's answers are not those of this package's engine."""
        return _identity(checkpoint, engine.info.precision, "-vllm")


class _ServerKey(NamedTuple):
    tokenizer: Tokenizer
    base_url: str
    model: str
    api_key: SecretStr | None
    max_retries: int


@dataclass(frozen=True, slots=True)
class AtServer:
    """A model that a server has under a name; its tokenizer and template are on this machine."""

    leases: Leases
    base_url: str
    api_key: SecretStr | None
    max_retries: int | None

    def engine(self, checkpoint: Checkpoint, deadline: float | None = None) -> Engine:
        """The engine; at first the server is asked whether it has the model."""
        # Its HTTP client takes a tenth of a second to import, which models on this machine need not wait for.
        from langchain_qwen.engine.remote import MAX_RETRIES, RemoteEngine, Server

        tokenizer = tokenizer_of(checkpoint)
        retries = MAX_RETRIES if self.max_retries is None else self.max_retries
        key = _ServerKey(tokenizer, self.base_url, checkpoint.name, self.api_key, retries)
        server = Server(
            self.base_url.rstrip("/"), checkpoint.name, self.api_key.get_secret_value() if self.api_key else None
        )
        return self.leases.get(
            key,
            lambda: RemoteEngine.connect(
                server,
                deadline=deadline,
                decode=tokenizer.decode,
                context_window=checkpoint.context_window,
                vocab_size=tokenizer.vocab_size,
                max_retries=retries,
            ),
            deadline=deadline,
        )

    def window(self, checkpoint: Checkpoint) -> int:
        """What the server gives of the model's window, which it is asked for."""
        return self.engine(checkpoint).info.context_window

    def warm(self, checkpoint: Checkpoint, tokens: Sequence[int]) -> int:
        """In the server's own prefix cache."""
        return _warm_by_asking(self.engine(checkpoint), tokens)

    def identity(self, checkpoint: Checkpoint, engine: Engine) -> dict[str, Any]:  # noqa: ARG002
        """By its name; the server keeps the rest to itself."""
        return {"model_name": engine.info.model}


def _identity(checkpoint: Checkpoint, precision: str, engine: str = "") -> dict[str, Any]:
    fingerprint = f"{checkpoint.fingerprint[:16]}-{precision}{engine}"
    return {"model_name": checkpoint.name, "precision": precision, "system_fingerprint": fingerprint}


def _warm_by_asking(engine: Engine, tokens: Sequence[int]) -> int:
    """Generates one token, twice: how many a prefix cache had the second time, if that is told."""
    request = Request((*tokens, tokens[-1]), max_tokens=1, stop_ids=frozenset())
    cached = 0
    for _ in range(2):
        for event in engine.stream(request):
            if isinstance(event, (Started, Finished)):
                cached = event.cached_tokens or cached
    return min(cached, len(tokens))


def check_place(base_url: str | None, given: Mapping[str, Any]) -> None:
    """Raise `InvalidParameterError` unless the settings that were `given` fit the place.

    Args:
        base_url: Of a server; None is this machine.
        given: Names and values.
    """
    if base_url is None:
        if given.get("tokenizer") is not None:
            raise InvalidParameterError("tokenizer goes with base_url; on this machine `model` brings its own")
        _check_engine(given)
        return
    if given.get("engine", "local") != "local":
        raise InvalidParameterError('engine="vllm" runs vLLM in this process; leave it out beside base_url')
    here = [name for name in _OF_THIS_MACHINE if given.get(name) not in (None, "auto")]
    if here:
        raise InvalidParameterError(f"{', '.join(here)}: the server decides about that; leave it out beside base_url")
    try:
        parts = urlsplit(base_url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no host or port can be that
        named = False
    if not named or not base_url.isprintable() or " " in base_url:
        raise InvalidParameterError('base_url is that of an API, as in "http://host:8000/v1"')
    if parts.username is not None or parts.password is not None:
        raise InvalidParameterError("base_url holds a user or a password, which traces would show; use api_key")
    if "?" in base_url or "#" in base_url:
        raise InvalidParameterError("base_url ends with its path; leave out what comes behind ? or #")
    key = given["api_key"].get_secret_value() if given.get("api_key") else ""
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise InvalidParameterError(
            "api_key holds what cannot be sent: a line break or space at an end, as of a file, or a letter beyond ASCII"
        )


def _check_engine(given: Mapping[str, Any]) -> None:
    """Raise where settings do not go with the engine in this process."""
    arguments = given.get("vllm_kwargs") or {}
    if given.get("engine", "local") != "vllm":
        if arguments:
            raise InvalidParameterError('vllm_kwargs goes with engine="vllm"')
        return
    if given.get("device", "auto") != "auto":
        raise InvalidParameterError("device: vLLM has its own; CUDA_VISIBLE_DEVICES says which GPUs it may use")
    if given.get("quantization_config") is not None:
        raise InvalidParameterError("quantization_config is bitsandbytes'; with vLLM take a GPTQ or AWQ checkpoint")
    if (precision := given.get("precision", "auto")) not in PRECISIONS:
        raise InvalidParameterError(
            f"precision={precision!r}: vLLM holds weights as the checkpoint has them, or in bf16, fp16 or fp32; for 4 "
            "and 8 bits take a GPTQ or AWQ checkpoint"
        )
    check_arguments(arguments)
    require_vllm()
