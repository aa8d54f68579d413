"""Where a chat model's answers are generated: on this machine, or at a server. Nothing above knows which."""

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
from langchain_qwen.engine.protocol import Finished
from langchain_qwen.engine.remote import MAX_RETRIES, RemoteEngine, Server
from langchain_qwen.engine.sharing import EngineKey, Leases
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.opening import tokenizer_of
from langchain_qwen.prompting import Tokenizer

_OF_THIS_MACHINE = ("precision", "device", "quantization_config", "kv_cache_bytes")


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
        key = EngineKey(checkpoint.fingerprint, self.precision, quantization, self.device, self.kv_cache_bytes)
        engine = self.leases.get(
            key,
            lambda: load_engine(
                checkpoint,
                precision=self.precision,
                device=self.device,
                kv_cache_bytes=self.kv_cache_bytes,
                quantization_config=self.quantization_config,
            ),
            place=checkpoint.path,
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
        precision = engine.info.precision
        fingerprint = f"{checkpoint.fingerprint[:16]}-{precision}"
        return {"model_name": checkpoint.name, "precision": precision, "system_fingerprint": fingerprint}


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
        """Generates one token, twice: how many the server's own prefix cache had the second time, if it tells."""
        engine, request = self.engine(checkpoint), Request((*tokens, tokens[-1]), max_tokens=1, stop_ids=frozenset())
        cached = 0
        for _ in range(2):
            for event in engine.stream(request):
                if isinstance(event, Finished):
                    cached = event.cached_tokens or 0
        return min(cached, len(tokens))

    def identity(self, checkpoint: Checkpoint, engine: Engine) -> dict[str, Any]:  # noqa: ARG002
        """By its name; the server keeps the rest to itself."""
        return {"model_name": engine.info.model}


def check_place(base_url: str | None, given: Mapping[str, Any]) -> None:
    """Raise `InvalidParameterError` unless the settings that were `given` fit the place.

    Args:
        base_url: Of a server; None is this machine.
        given: Names and values.
    """
    if base_url is None:
        if given.get("tokenizer") is not None:
            raise InvalidParameterError("tokenizer goes with base_url; on this machine `model` brings its own")
        return
    here = [name for name in _OF_THIS_MACHINE if given.get(name) not in (None, "auto")]
    if here:
        raise InvalidParameterError(f"{', '.join(here)}: the server decides about that; leave it out beside base_url")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidParameterError('base_url is that of an API, as in "http://host:8000/v1"')
    if parts.username is not None or parts.password is not None:
        raise InvalidParameterError("base_url holds a user or a password, which traces would show; use api_key")
    if parts.query or parts.fragment:
        raise InvalidParameterError("base_url ends with its path; leave out what comes behind ? or #")
