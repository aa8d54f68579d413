"""Objects whose copies are made anew: locks, compiled rules and counters cannot be copied, or should not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typing_extensions import Self


class Rebuilt:
    """Deep copies and pickles hold what the object was made of, and are made of it again."""

    _made_of: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember what it is made of."""
        made = super().__new__(cls)
        made._made_of = lambda: (args, kwargs)  # a function shows no key that may be among them
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), *self._made_of())


def _rebuild(kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kind(*args, **kwargs)
