"""Locks that a forked child finds open.

fork() copies a lock as it stands and of the threads only the one that called it: what another thread held would stay
locked in the child for ever.
"""

from __future__ import annotations

import os
import threading
import weakref

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


def _renew() -> None:
    for owner, attribute in list(_owners.items()):
        setattr(owner, attribute, threading.Lock())


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew)
