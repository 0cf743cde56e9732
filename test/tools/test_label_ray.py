"""``xmodelkd label --ray``: a real Ray cluster of two nodes on this machine, one of which is lost while it works."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xmodelkd_ros.bags.bag import BagReader

ray = pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster(monkeypatch):
    """A head without CPUs and two nodes with one each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


def command(bags, model, out, *more):
    words = [sys.executable, "-m", "xmodelkd_ros.tools.cli", "label", *bags, "--model", model, "--out", out, *more]
    return [str(word) for word in words]


def points_of(bag):
    with BagReader(bag) as reader:
        return [bytes(message.data) for message in reader.raw(["/points"])]


def test_no_bag_is_lost_or_labelled_twice_when_a_node_is_killed(cluster, make_drive, height_model, tmp_path):
    cluster, (first, _) = cluster
    bags = [make_drive(f"bag{k}.mcap", sweeps=40, cameras=()) for k in range(6)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(bags, height_model, out, "--ray", cluster.address), env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.mcap"))) < 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    cluster.remove_node(first, allow_graceful=False)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "6 of 6 bags, 240 sweeps" in said and len([line for line in said.splitlines() if "/6]" in line]) == 6
    summary = json.loads((out / "summary.json").read_text())
    assert sorted(Path(bag["bag"]).name for bag in summary["bags"]) == [bag.name for bag in bags]
    assert subprocess.run(command(bags, height_model, tmp_path / "alone"), env=environment).returncode == 0
    for bag in bags:
        assert points_of(out / bag.name) == points_of(tmp_path / "alone" / bag.name)


def test_no_cluster(make_drive, height_model, tmp_path):
    bag = make_drive("bag.mcap", sweeps=1, cameras=())
    words = command([bag], height_model, tmp_path / "out", "--ray", "127.0.0.1:1")
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot reach the Ray cluster 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
