"""How many threads the CPU engine should run: one for each fast physical core that the process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

UNLIMITED = 1 << 20
SLOW = 0.7  # of the fastest processor's capacity, as Linux counts it: phones have 0.3 to 0.4 beside 0.8 to 1


def usable_cores(root: Path = Path("/")) -> int:
    """Fast physical cores within the process's affinity and its container's quota, at least one.

    Two threads on one physical core share its arithmetic units: more threads than cores are slower, not faster. And all
    threads wait for the last one of them, so slow cores beside fast ones hold these up.

    Args:
        root: Where /proc and /sys are.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return max(1, min(_physical(fast(allowed, root), root), quota(root)))


def fast(processors: set[int], root: Path = Path("/")) -> set[int]:
    """Those of the processors that are not much slower than the fastest of them; all where the system does not tell.

    Args:
        processors: Numbers of logical processors.
        root: Where /sys is.
    """
    performance = _numbers(root / "sys/devices/cpu_core/cpus")  # of Intel's hybrid processors
    if performance & processors:
        return performance & processors
    capacity = {n: _numbers(root / f"sys/devices/system/cpu/cpu{n}/cpu_capacity") for n in processors}
    most = max((max(capacities, default=0) for capacities in capacity.values()), default=0)
    return {n for n in processors if max(capacity[n], default=most) >= SLOW * most}


def _physical(processors: set[int], root: Path) -> int:
    """How many physical cores these logical processors are."""
    topology = {n: _numbers(root / f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") for n in processors}
    if all(topology.values()):
        return len({frozenset(siblings) for siblings in topology.values()})
    threads_per_core = max(1, round((psutil.cpu_count() or 1) / (psutil.cpu_count(logical=False) or 1)))
    return math.ceil(len(processors) / threads_per_core)


def _numbers(file: Path) -> set[int]:
    """The numbers of a list such as "0-3,8"."""
    numbers: set[int] = set()
    for piece in ",".join(_lines(file)).split(","):
        first, _, last = piece.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


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
