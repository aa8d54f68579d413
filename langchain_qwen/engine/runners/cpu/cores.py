"""How many threads the CPU engine should run: one for each physical core that the process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

UNLIMITED = 1 << 20


def usable_cores() -> int:
    """Physical cores within the process's affinity and its container's quota, at least one.

    Two threads on one physical core share its arithmetic units: more threads than cores are slower, not faster.
    """
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads_per_core = max(1, round((psutil.cpu_count() or 1) / (psutil.cpu_count(logical=False) or 1)))
    return max(1, min(math.ceil(logical / threads_per_core), quota()))


def quota(root: Path = Path("/")) -> int:
    """Whole cores that the process's control groups allow, at least one; a large number without a limit.

    A group's limit holds for all groups within it, so the least on the way up counts. A container often sees its own
    group as the top of the tree, while /proc names it as the host does: then the way begins at the top.

    Args:
        root: Where /proc and /sys are.
    """
    cores = float(UNLIMITED)
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:  # version 2
            top, limit = root / "sys/fs/cgroup", _limit_v2
        elif "cpu" in controllers.split(","):
            top, limit = root / "sys/fs/cgroup" / controllers, _limit_v1
            if not top.is_dir():
                top = root / "sys/fs/cgroup/cpu"
        else:
            continue
        group = top / path.lstrip("/")
        while group.is_relative_to(top) and ".." not in group.parts:
            cores = min(cores, limit(group))
            group = group.parent
        cores = min(cores, limit(top))
    return max(1, math.floor(cores))


def _limit_v2(group: Path) -> float:
    return _ratio(" ".join(_lines(group / "cpu.max")).split())


def _limit_v1(group: Path) -> float:
    return _ratio([*_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")])


def _ratio(numbers: list[str]) -> float:
    """Quota and period in microseconds, as cores; "max" and -1 stand for no limit."""
    try:
        allowed, period = map(int, numbers)
        return allowed / period if allowed > 0 and period > 0 else UNLIMITED
    except ValueError:  # "max", or no such file
        return UNLIMITED


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not there on this system, or not for us
        return []
