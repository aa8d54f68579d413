"""One engine for all who use the same weights in a process: loaded at first use, closed when the last user is gone."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from langchain_qwen.engine.protocol import Engine
from langchain_qwen.errors import EngineClosedError


class EngineKey(NamedTuple):
    """What makes two engines the same."""

    fingerprint: str
    precision: str
    quantization: str
    device: str
    kv_cache_bytes: int | None


@dataclass
class _Shared:
    """An engine and how many leases hold it. `loading` lets one thread load while others wait for the result."""

    users: int = 0
    engine: Engine | None = None
    loading: threading.Lock = field(default_factory=threading.Lock)


_registry: dict[EngineKey, _Shared] = {}
_registry_lock = threading.RLock()  # re-entrant: the garbage collector may release a lease while it is held


class Leases:
    """The engines that one model object uses.

    Copies of the model object share it. Everything is released by `close`, or when the last copy is collected.
    Pickles and deep copies start empty: weights are shared, not copied.
    """

    def __init__(self) -> None:
        self._keys: set[EngineKey] = set()
        self._closed = threading.Event()
        self._finalizer = weakref.finalize(self, _release, self._keys)
        self._finalizer.atexit = False  # `_close_all` does it, in one place

    def __reduce__(self) -> tuple[type[Leases], tuple[()]]:
        return Leases, ()

    def get(self, key: EngineKey, load: Callable[[], Engine]) -> Engine:
        """The engine of `key`, loaded by `load` if nobody in the process has it."""
        if self._closed.is_set():
            raise EngineClosedError("this model object has been closed; create a new ChatQwen")
        with _registry_lock:
            shared = _registry.setdefault(key, _Shared())
            if key not in self._keys:
                self._keys.add(key)
                shared.users += 1
        with shared.loading:
            if shared.engine is None:
                shared.engine = load()
            return shared.engine

    def close(self) -> None:
        """Release all engines; later calls of `get` raise `EngineClosedError`."""
        self._closed.set()
        _release(self._keys)


def _release(keys: set[EngineKey]) -> None:
    unused = []
    with _registry_lock:
        while keys:
            key = keys.pop()
            shared = _registry[key]
            shared.users -= 1
            if shared.users == 0:
                del _registry[key]
                unused.append(shared)
    for shared in unused:
        with shared.loading:  # one that is being loaded for a call in another thread is closed as soon as it is there
            if shared.engine is not None:
                shared.engine.close()


@atexit.register
def _close_all() -> None:
    """Stop the threads before the interpreter takes their modules apart."""
    for shared in list(_registry.values()):
        if shared.engine is not None:
            shared.engine.close()
