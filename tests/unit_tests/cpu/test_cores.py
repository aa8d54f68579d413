"""The quota of control groups is found wherever it stands, and fast cores are told from slow ones."""

from __future__ import annotations

import os

import pytest

from langchain_qwen.engine.runners.cpu import cores

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, cores.UNLIMITED, id="no control groups"),
        pytest.param({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "200000 100000"}, 2, id="v2 at the top"),
        pytest.param({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "max 100000"}, cores.UNLIMITED, id="v2 no limit"),
        pytest.param({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "50000 100000"}, 1, id="less than one core"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/user.slice/app.service/child",
                f"{V2}/user.slice/cpu.max": "300000 100000",
                f"{V2}/user.slice/app.service/cpu.max": "max 100000",
                f"{V2}/user.slice/app.service/child/cpu.max": "800000 100000",
            },
            3,
            id="v2 nested, the least on the way up",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../../host/path", f"{V2}/cpu.max": "400000 100000"}, 4, id="v2 namespace"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/docker/abc", f"{V2}/cpu.max": "400000 100000"}, 4, id="v2 named as on the host"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc",
                f"{V1}/docker/abc/cpu.cfs_quota_us": "250000",
                f"{V1}/docker/abc/cpu.cfs_period_us": "100000",
                f"{V1}/docker/cpu.cfs_quota_us": "-1",
                f"{V1}/docker/cpu.cfs_period_us": "100000",
            },
            2,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
            },
            2,
            id="v1 in a container, by its short name",
        ),
        pytest.param({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "soon"}, cores.UNLIMITED, id="what is no number"),
    ],
)
def test_quota(tmp_path, files, expected):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert cores.quota(tmp_path) == expected


def test_there_is_a_core():
    assert cores.usable_cores() >= 1


CPU = "sys/devices/system/cpu/cpu"


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def topology(*cores):
    """Files that say which logical processors are one core."""
    return {f"{CPU}{n}/topology/thread_siblings_list": ",".join(map(str, core)) for core in cores for n in core}


@pytest.mark.parametrize(
    ("files", "allowed", "expected"),
    [
        pytest.param(topology([0], [1], [2], [3]), {0, 1, 2, 3}, 4, id="four equal cores"),
        pytest.param(topology([0, 4], [1, 5], [2, 6], [3, 7]), set(range(8)), 4, id="two threads a core"),
        pytest.param(topology([0, 4], [1, 5], [2, 6], [3, 7]), {0, 4, 1}, 2, id="two threads a core, affinity"),
        pytest.param(
            {**topology([0, 1], [2, 3], *([n] for n in range(4, 12))), "sys/devices/cpu_core/cpus": "0-3\n"},
            set(range(12)),
            2,
            id="two fast cores of Intel beside eight slow ones",
        ),
        pytest.param(
            {**topology(*([n] for n in range(4, 12))), "sys/devices/cpu_core/cpus": "0-3\n"},
            set(range(4, 12)),
            8,
            id="slow cores of Intel are all that are allowed",
        ),
        pytest.param(
            {
                **topology(*([n] for n in range(8))),
                **{f"{CPU}{n}/cpu_capacity": "384" for n in range(4)},
                **{f"{CPU}{n}/cpu_capacity": "870" for n in range(4, 7)},
                f"{CPU}7/cpu_capacity": "1024",
            },
            set(range(8)),
            4,
            id="a phone",
        ),
    ],
)
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity")
def test_threads_run_on_fast_physical_cores(tmp_path, monkeypatch, files, allowed, expected):
    write(tmp_path, files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    assert cores.usable_cores(tmp_path) == expected
