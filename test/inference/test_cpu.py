"""Number of cores, with a quota in control groups as Linux presents them."""

import os

import pytest

from xmodelkd_ros.inference import cpu

V1 = "30 20 0:28 {mounted} /sys/fs/cgroup/{folder} rw,relatime shared:9 - cgroup cgroup rw,{options}"
V2 = "30 20 0:28 {mounted} {folder} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
ROOT_DISK = "20 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Function that writes the files of a machine with eight cores; returns its root."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def write(cgroup, mountinfo, files):
        files = {"proc/self/cgroup": f"{cgroup}\n", "proc/self/mountinfo": f"{ROOT_DISK}\n{mountinfo}\n", **files}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def v2(machine, files, group="/", mounted="/", folder="/sys/fs/cgroup"):
    prefixed = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    return machine(f"0::{group}", V2.format(mounted=mounted, folder=folder), prefixed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100000 100000\n", 1),
        ("200000 100000\n", 2),
        ("150000 100000\n", 1),  # the rest of a core is no core: see the docstring
        ("50000 100000\n", 1),
        ("max 100000\n", 8),
        ("1600000 100000\n", 8),
        ("30000 10000\n", 3),
        ("", 8),
        ("garbage", 8),
        ("100000 0", 8),
    ],
)
def test_container_with_version_2(machine, text, expected):
    assert cpu.cores(v2(machine, {"cpu.max": text})) == expected


def test_lowest_quota_of_nested_groups_counts(machine):
    files = {"a.slice/b.service/cpu.max": "max 100000", "a.slice/cpu.max": "250000 100000", "cpu.max": "400000 100000"}
    root = v2(machine, files, "/a.slice/b.service")
    assert cpu.cpu_quota(root) == 2.5 and cpu.cores(root) == 2
    (root / "sys/fs/cgroup/a.slice/b.service/cpu.max").write_text("100000 100000")
    assert cpu.cores(root) == 1


def test_group_of_another_process_does_not_count(machine):
    assert cpu.cores(v2(machine, {"a/cpu.max": "100000 100000", "b/cpu.max": "300000 100000"}, "/b")) == 3


def test_subtree_of_the_host_mounted_in_a_container(machine):
    files = {"cpu.max": "200000 100000"}
    assert cpu.cores(v2(machine, files, "/docker/1234", mounted="/docker/1234")) == 2
    assert cpu.cores(v2(machine, files, "/../other", mounted="/")) == 2, "outside of the namespace"
    assert cpu.cores(v2(machine, files, "/", mounted="/docker/1234")) == 2


@pytest.mark.parametrize(("quota", "expected"), [("100000", 1), ("350000", 3), ("-1", 8)])
@pytest.mark.parametrize("group", ["/docker/1234", "/"])
def test_version_1(machine, quota, expected, group):
    mounted = V1.format(mounted=group, folder="cpu,cpuacct", options="cpu,cpuacct")
    folder = "sys/fs/cgroup/cpu,cpuacct"
    files = {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    root = machine(f"5:memory:/x\n4:cpu,cpuacct:{group}\n1:name=systemd:/y", mounted, files)
    assert cpu.cores(root) == expected


def test_version_1_beside_version_2(machine):
    """The hybrid layout of systemd: the controllers in version 1, and a tree of version 2 without any."""
    mounts = [
        V1.format(mounted="/", folder="cpuset", options="cpuset"),
        V1.format(mounted="/", folder="cpu", options="cpu"),
        V2.format(mounted="/", folder="/sys/fs/cgroup/unified"),
    ]
    files = {
        "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/unified/c/cgroup.procs": "1",
    }
    assert cpu.cores(machine("3:cpuset:/\n1:cpu:/a/b\n0::/c", "\n".join(mounts), files)) == 2


def test_mount_point_with_a_blank(machine):
    root = machine("0::/", V2.format(mounted="/", folder="/my\\040groups"), {"my groups/cpu.max": "100000 100000"})
    assert cpu.cores(root) == 1


def test_affinity_and_quota_both_count(machine, monkeypatch):
    root = v2(machine, {"cpu.max": "400000 100000"})
    assert cpu.cores(root) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cpu.cores(root) == 1


def test_machine_without_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert cpu.cpu_quota(tmp_path) == float("inf") and cpu.cores(tmp_path) == 2


def test_this_machine():
    assert 1 <= cpu.cores() <= (os.cpu_count() or 1)
