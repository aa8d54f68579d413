"""How many threads the CPU engine should run: one for each physical core that the process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Physical cores within the process's affinity and its container's quota, at least one.

    Two threads on one physical core share its arithmetic units: more threads than cores are slower, not faster.
    """
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads_per_core = max(1, round((psutil.cpu_count() or 1) / (psutil.cpu_count(logical=False) or 1)))
    return max(1, min(math.ceil(logical / threads_per_core), _quota()))


def _quota() -> int:
    """Whole cores that the container may use (cgroup v2), or a large number without a limit."""
    try:
        quota, period = CGROUP_QUOTA.read_text(encoding="ascii").split()
        return max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 20
