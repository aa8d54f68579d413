"""Which table of C kernels runs: the best that this processor has, or the one that an environment variable names."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.errors import ConfigurationError

VARIABLE = "LANGCHAIN_QWEN_KERNELS"


@dataclass(frozen=True)
class Table:
    """The kernels for one instruction set.

    Attributes:
        name: As the variable takes it.
        runs: Whether this processor and its system can run them.
        proven: Whether they run and the package's authors had a machine for them, or they have shown on this one that
            their products have the same bits; the others are used only by name.
    """

    name: str
    runs: bool
    proven: bool


def tables() -> list[Table]:
    """All tables in the library, the best first; several that bear one name count as one."""
    found: dict[str, Table] = {}
    native, runs, proven = library.load(), ctypes.c_int(), ctypes.c_int()
    index = 0
    while (name := native.lq_kernels_list(index, ctypes.byref(runs), ctypes.byref(proven))) is not None:
        table = Table(name.decode(), bool(runs.value), bool(proven.value))
        if table.name not in found or (table.runs and not found[table.name].runs):
            found[table.name] = table
        index += 1
    return list(found.values())


def choose(name: str | None = None) -> str:
    """The table to run.

    Args:
        name: One to run whatever the variable says.

    Raises:
        ConfigurationError: There is none of this name, or this machine cannot run it.
    """
    asked = os.environ.get(VARIABLE) if name is None else name
    usable = [table for table in tables() if table.runs]
    if not asked:
        return next(table.name for table in usable if table.proven)
    if asked not in {table.name for table in usable}:
        what = "this machine cannot run" if asked in {table.name for table in tables()} else "there are no"
        source = f"{VARIABLE}={asked}: " if name is None else ""
        raise ConfigurationError(
            f"{source}{what} kernels of the name {asked!r}; choose among {', '.join(table.name for table in usable)}"
        )
    return asked
