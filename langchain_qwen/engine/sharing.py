"""One engine for all who use the same weights in a process: loaded at first use, closed when the last user is gone."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable

from langchain_qwen.engine.protocol import Engine
from langchain_qwen.errors import EngineClosedError, GenerationTimeoutError
from langchain_qwen.forks import renewed_lock

Key = tuple[Hashable, ...]  # what makes two engines the same; first what may be another one when it is read again


class _Shared:
    """An engine and how many leases hold it. `loading` lets one thread load while others wait for the result."""

    def __init__(self) -> None:
        self.users = 0
        self.engine: Engine | None = None
        self.loading = renewed_lock(self, "loading")


_registry: dict[Key, _Shared] = {}
_registry_lock = threading.RLock()  # re-entrant: the garbage collector may release a lease while it is held
if hasattr(os, "register_at_fork"):  # so that a child never sees it half changed
    os.register_at_fork(
        before=_registry_lock.acquire,
        after_in_parent=_registry_lock.release,
        after_in_child=_registry_lock.release,
    )


class Leases:
    """The engines that one model object uses.

    Copies of the model object share it. Everything is released by `close`, or when the last copy is collected.
    Pickles and deep copies start empty: weights are shared, not copied.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, Key] = {}
        self._closed = False
        weakref.finalize(self, _release, self._held, wait=False).atexit = False

    def __reduce__(self) -> tuple[type[Leases], tuple[()]]:
        return Leases, ()

    def get(
        self, key: Key, load: Callable[[], Engine], *, place: Hashable = None, deadline: float | None = None
    ) -> Engine:
        """The engine of `key`, loaded by `load` if nobody in the process has it.

        Args:
            key: Names the engine.
            load: Makes it; not interrupted by the deadline.
            place: Where the weights come from. Once there are others at the same place, the engine of the former ones
                is let go of, and freed when no answer needs it any more.
            deadline: When (`time.monotonic()` seconds) to stop waiting for another thread that loads it.

        Raises:
            EngineClosedError: After `close`.
            GenerationTimeoutError: The deadline passed.
        """
        slot = (place, key[1:])
        with _registry_lock:
            if self._closed:
                raise EngineClosedError("this model object has been closed; create a new ChatQwen")
            outdated = self._held.get(slot)
            shared = _registry.setdefault(key, _Shared())
            if outdated != key:
                self._held[slot] = key
                shared.users += 1
                if outdated is not None:
                    _let_go(outdated)
        locked = False
        try:
            locked = shared.loading.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic()))
            if not locked:
                raise GenerationTimeoutError(
                    "`timeout` passed while another call was loading the weights; raise it, or load them beforehand "
                    "with `load()`"
                )
            if shared.engine is None:
                shared.engine = load()
            return shared.engine
        finally:
            if locked:
                shared.loading.release()

    def close(self) -> None:
        """Release all engines; later calls of `get` raise `EngineClosedError`."""
        with _registry_lock:
            self._closed = True
        _release(self._held, wait=True)


def _let_go(key: Key) -> _Shared | None:
    """One user less; what has none any more."""
    shared = _registry[key]
    shared.users -= 1
    return _registry.pop(key) if shared.users == 0 else None


def _release(held: dict[Hashable, Key], *, wait: bool) -> None:
    unused = []
    with _registry_lock:
        while held:
            unused.append(_let_go(held.popitem()[1]))
    for shared in filter(None, unused):
        if not wait:  # collected: nobody is left who could be loading it
            if shared.engine is not None:
                shared.engine.close(wait=False)
            continue
        with shared.loading:  # one that is being loaded for a call in another thread is closed as soon as it is there
            if shared.engine is not None:
                shared.engine.close()
