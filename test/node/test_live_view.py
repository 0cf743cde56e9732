"""``xmodelkd view --live`` beside a running segmenter."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from test.rerun_files import chunks_of
from test.waiting import wait_until

pytest.importorskip("rerun", reason="Rerun is not installed (extra view)")
ROOT = Path(__file__).parents[2]


def test_labels_of_a_running_node_are_shown(bench, sweep, tmp_path):
    out = tmp_path / "live.rrd"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "xmodelkd_ros.tools.cli", "view", "--live", "--save", str(out)]
    env, log = {**os.environ, "PYTHONPATH": path}, tmp_path / "log.txt"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True)
    stamps = itertools.count(1.0)
    try:
        wait_until(
            lambda: "showing /segmenter/labels" in log.read_text(),
            "the first sweep in the viewer",
            step=lambda: bench.segment(sweep(stamp=next(stamps))),
        )
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and said.startswith(f"{out}: ")
    shown = int(said.split()[1])
    entities = chunks_of(out)
    assert shown >= 1 and entities["/world/lidar/labels/road"][0] == shown
    assert "AnnotationContext:context" in entities["/world"][1]
