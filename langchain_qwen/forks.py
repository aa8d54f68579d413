"""What is locked must be open in a forked child.

fork() copies a lock as it stands and of the threads only the one that called it: what another thread held would stay
locked in the child for ever.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_owners: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()


def renewed_lock(owner: object, attribute: str) -> threading.Lock:
    """A lock that every forked child replaces by a new one.

    What it guards must be whole whenever another thread may run, or may be lost: a cache, say.

    Args:
        owner: The object, or the module, that keeps the lock. It has one such lock.
        attribute: Under this name.
    """
    _owners[owner] = attribute
    return threading.Lock()


class cached_property(functools.cached_property[T]):  # noqa: N801  as the one it stands for
    """functools', without the lock that it has before Python 3.12, one for all objects of a class."""

    def __init__(self, compute: Callable[[Any], T]):
        super().__init__(compute)
        self.lock = contextlib.nullcontext()


def _renew() -> None:
    for owner, attribute in list(_owners.items()):
        setattr(owner, attribute, threading.Lock())


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew)
