import json
import os
import signal
import subprocess
import time
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest

from test.example_drive import scaled_drive
from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, BagReader, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import BagError
from xmodelkd_ros.core.usable_points import usable_mask
from xmodelkd_ros.harness.dds_profile import PROFILE_VARIABLES
from xmodelkd_ros.harness.processes import ProcessError, Program, dds_environment, wait_for
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import SweepLog, SweepLogReader
from xmodelkd_ros.messages.clouds import labels_to_msg
from xmodelkd_ros.reports.scores import Scores
from xmodelkd_ros.segmentation.backend_selection import LIBRARIES
from xmodelkd_ros.tools.cli import main
from xmodelkd_ros.tools.replay import _read_status, _score, _Traffic
from xmodelkd_ros.tools.session import Session

pytest.importorskip("rclpy")
pytestmark = pytest.mark.usefixtures("own_domain")

HAS_TF2 = find_spec("tf2_ros") is not None


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


def children(pid):
    """Node, players and recorders whose parent is a process."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    return [
        row
        for row in rows
        if int(row[1]) == pid and ("xmodelkd_ros.node" in row[2] or "xmodelkd_ros.harness" in row[2])
    ]


def replay(bag, model, out, *more, rate="0.25"):
    """Replay slowly, so that nothing is dropped on a busy machine; returns metrics.json."""
    options = ["--model", str(model), "--label-set", "pandaset9", "--rate", rate, "--out", str(out), *map(str, more)]
    assert main(["replay", str(bag), *options]) == 0
    return metrics_of(out)


def evaluate(bag, model, out, *more):
    """Evaluate offline; returns metrics.json."""
    options = ["--model", str(model), "--label-set", "pandaset9", "--out", str(out), *map(str, more)]
    assert main(["evaluate", str(bag), *options]) == 0
    return metrics_of(out)


def test_replay_writes_summary_and_report_and_leaves_no_process(drive, height_model, tmp_path, capsys):
    metrics = replay(drive.path, height_model, tmp_path)
    assert metrics["sweeps"] == {"input": len(drive.clouds), "output": len(drive.clouds)}
    assert metrics["iou"]["road"] == pytest.approx(0.9, abs=0.01), "every tenth point is a car"
    assert metrics["modes"] == {"student": len(drive.clouds), "teacher": 0}
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"mIoU {metrics['miou']:.3f} (pandaset9) | sweeps in 5, out 5 | latency p50" in last
    assert last.endswith(str(tmp_path / "report.html"))
    assert {p.name for p in tmp_path.iterdir()} >= {"report.html", "metrics.json", "sweep.png", "logs"}
    assert not list(tmp_path.glob(".replay.*"))
    assert children(os.getpid()) == []


def test_replay_reports_the_nodes_warnings_about_its_input(height_model, tmp_path, capsys):
    bag = scaled_drive(tmp_path / "bag", [(1, 1 / 255), (1, 1 / 255), (1000, 1 / 255), (0, 1), (np.nan, 1)])
    metrics = replay(bag, height_model, tmp_path / "node")
    offline = evaluate(bag, height_model, tmp_path / "offline")
    assert metrics["sweeps"] == offline["sweeps"] == {"input": 5, "output": 5}
    assert metrics["warnings"] == offline["warnings"] != []
    assert capsys.readouterr().err.count("warning: ") == 2 * len(metrics["warnings"])
    assert "looks like a scale of 0 to 1" in (tmp_path / "node" / "report.html").read_text()


FIXED_FRAMES = ["", pytest.param("map", marks=pytest.mark.skipif(not HAS_TF2, reason="tf2_ros is not installed"))]


@pytest.mark.parametrize("fixed_frame", FIXED_FRAMES)
def test_shipped_teacher_labels_a_real_drive_as_offline(real_drive, tmp_path, monkeypatch, fixed_frame):
    labels = []
    add = Scores.add
    monkeypatch.setattr(Scores, "add", lambda *args, **named: labels.append(args[2].label) or add(*args, **named))
    # The node estimates the LiDAR beside the labelling, so that its first sweeps are labelled with less known of it.
    assert main(["fit-sensor", str(real_drive), "--out", str(tmp_path / "lidar.json")]) == 0
    # Without comparing back ends, which would take seconds.
    options = [
        "--sensor",
        str(tmp_path / "lidar.json"),
        "--mode",
        "teacher",
        "--backend",
        "onnxruntime",
        *(["--fixed-frame", fixed_frame] if fixed_frame else []),
    ]
    # Some images are taken after the sweep's stamp, which is its end, and arrive a second later at this rate.
    node = replay(real_drive, "teacher", tmp_path / "node", *options, "--deadline", 0.3, rate="0.05")
    offline = evaluate(real_drive, "teacher", tmp_path / "offline", *options)
    # TF begins with the pose at the first sweep, so ego motion is unknown until the second.
    first = 1 if fixed_frame else 0
    assert node["modes"] == {"student": first, "teacher": 3 - first}
    labels_of_node, labels_offline = labels[first:3], labels[3 + first :]
    assert (np.concatenate(labels_of_node) == np.concatenate(labels_offline)).mean() >= 0.999
    assert set(node) == {*offline, "start_s"} and 0 < node["start_s"] < 60
    assert node["sweeps"] == {"input": offline["sweeps"]["input"], "output": offline["sweeps"]["input"]}
    assert node["points"] == offline["points"]
    if not fixed_frame:
        assert node["miou"] == pytest.approx(offline["miou"], abs=0.001)
    assert node["latency_ms"]["p50"] > sum(node["stages_ms"][s]["p50"] for s in ("project", "infer"))
    assert {"decode", "project", "normalize", "infer", "decide"} <= set(node["stages_ms"])


def test_teacher_without_usable_images_is_reported(drive, light_model, tmp_path, capsys):
    options = ["--model", str(light_model), "--mode", "teacher", "--out", str(tmp_path)]
    assert main(["evaluate", str(drive.path), *options, "--image-age", "5"]) == 0
    assert metrics_of(tmp_path)["modes"]["teacher"] == 0
    stderr = capsys.readouterr().err
    assert "note: no sweep had a usable image: all were labelled by LiDAR alone" in stderr


def test_teacher_without_its_only_camera_is_a_student(drive, light_model, height_model, tmp_path):
    options = ["--mode", "teacher", "--student", height_model, "--drop-cameras", "front"]
    node = replay(drive.path, light_model, tmp_path, *options)
    assert node["modes"] == {"student": len(drive.clouds), "teacher": 0}


@pytest.mark.parametrize("command", ["replay", "evaluate"])
def test_rejects_unknown_camera(drive, light_model, tmp_path, capsys, command):
    options = ["--model", str(light_model), "--mode", "teacher", "--drop-cameras", "rear", "--out", str(tmp_path)]
    assert main([command, str(drive.path), *options]) == 1
    assert "error: no camera rear to drop; the bag has front" in capsys.readouterr().err


def test_teacher_labels_as_offline_with_cameras_dropped_to_its_number(
    write_test_drive, light_model, height_model, tmp_path, capsys
):
    """The bag has four cameras, one more than the model takes; its images get brighter from sweep to sweep."""
    bag = write_test_drive(tmp_path / "bag", sweeps=5, cameras=("front", "rear", "top", "low"))
    for command in ("replay", "evaluate"):
        assert main([command, str(bag), "--model", str(light_model), "--mode", "teacher", "--out", str(tmp_path)]) == 1
        stderr = capsys.readouterr().err
        assert "error: the bag has 4 cameras (front, low, rear, top), but the model takes 3 at most" in stderr
    options = ["--mode", "teacher", "--drop-cameras", "low"]
    node = replay(bag, light_model, tmp_path / "node", *options, "--student", height_model)
    offline = evaluate(bag, light_model, tmp_path / "offline", *options)
    assert node["modes"] == offline["modes"] == {"student": 0, "teacher": 5}
    assert node["iou"]["car"] > 0 and node["iou"] == offline["iou"]


def test_node_gets_the_selected_back_end_and_chooses_precisions(drive, light_model, tmp_path, monkeypatch):
    """With ``auto`` the teacher may run in fp16 while the student has fp32 only."""
    passed = []

    def stop(options, *_):
        passed.append((options.backend, options.precision))
        raise ProcessError("stopped")

    monkeypatch.setattr("xmodelkd_ros.tools.replay._play", stop)
    assert (
        main(["replay", str(drive.path), "--model", str(light_model), "--mode", "teacher", "--out", str(tmp_path)]) == 1
    )
    [(backend, precision)] = passed
    assert backend in LIBRARIES and precision == "auto"


def test_teacher_needs_a_bag_with_cameras(make_drive, light_model, tmp_path, capsys):
    bag = make_drive(cameras=())
    assert main(["replay", str(bag), "--model", str(light_model), "--mode", "teacher", "--out", str(tmp_path)]) == 1
    assert "has no camera for a teacher; replay it with --mode student" in capsys.readouterr().err


def test_failure_of_the_node_is_reported_with_its_error(drive, height_model, tmp_path, capsys, monkeypatch):
    arguments = ["--ros-args", "-p", "model:=/nowhere"]
    monkeypatch.setattr("xmodelkd_ros.tools.replay.node_arguments", lambda *_: arguments)
    start = time.monotonic()
    options = ["--model", str(height_model), "--backend", "onnxruntime", "--out", str(tmp_path)]
    assert main(["replay", str(drive.path), *options]) == 1
    assert time.monotonic() - start < 55, "before the start times out"
    error = capsys.readouterr().err
    assert error.startswith("error: segment_node ended with exit code 1: ")
    assert "/nowhere" in error
    assert len(error.splitlines()) == 1
    assert children(os.getpid()) == []


def test_environment_keeps_the_settings_of_the_user():
    of_fastdds_3, of_fastdds_2 = PROFILE_VARIABLES
    env = dds_environment({"ROS_DOMAIN_ID": "7", of_fastdds_2: "/mine.xml", "AMENT_PREFIX_PATH": "/opt/ros"})
    assert env["AMENT_PREFIX_PATH"] == "/opt/ros"
    assert env[of_fastdds_2] == "/mine.xml"
    assert of_fastdds_3 not in env
    env = dds_environment({})
    assert env[of_fastdds_3].endswith("config/fastdds_large_clouds.xml")
    assert of_fastdds_2 not in env
    assert of_fastdds_3 not in dds_environment({"ROS_DISTRO": "humble"})
    for users in range(1, 101):
        domain = dds_environment({"ROS_DOMAIN_ID": str(users)})["ROS_DOMAIN_ID"]
        assert 1 <= int(domain) <= 100 and int(domain) != users, "a bag must not reach a running vehicle"
    assert env["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_timeout_ends_a_program_and_reports_its_output(tmp_path):
    recorder = Program("harness.recorder", ["--topics", "/nobody"], dds_environment(), tmp_path / "recorder.log")
    with recorder, pytest.raises(ProcessError, match="timeout of 1 s waiting for an answer; recorder: no output"):
        wait_for(lambda: False, [recorder], 1, "an answer")
    assert recorder.returncode in (0, -signal.SIGINT), "the latter during its start"


def status(stamp_ns, header, message, **values):
    """DiagnosticArray that the node publishes for a sweep."""
    kinds = {
        name: message_class(f"diagnostic_msgs/msg/{name}")
        for name in ("DiagnosticArray", "DiagnosticStatus", "KeyValue")
    }
    pairs = [kinds["KeyValue"](key, str(value)) for key, value in values.items()]
    one = kinds["DiagnosticStatus"](0, "segmenter: sweep", message, "lidar", pairs)
    return kinds["DiagnosticArray"](header(stamp_ns), [one])


def test_scores_match_sweeps_and_labels_by_stamp_and_size(drive, height_model, tmp_path, header):
    """Four of five sweeps were played, three labelled, and their labels recorded out of order."""
    stamps = [1_700_000_000_000_000_000 + i * 100_000_000 for i in range(4)]
    keys = [(stamp, len(cloud)) for stamp, cloud in zip(stamps, drive.clouds, strict=False)]
    with BagWriter(tmp_path / "recorded") as bag:
        bag.add_topic("/segmenter/labels", "sensor_msgs/msg/PointCloud2")
        bag.add_topic("/segmenter/status", "diagnostic_msgs/msg/DiagnosticArray")
        for order, i in enumerate((1, 0, 3)):
            cloud, truth = drive.clouds[i], drive.truths[i]
            segmentation = Segmentation(truth, np.ones(len(truth), np.float32), np.zeros(len(truth), np.float32))
            bag.write("/segmenter/labels", order, labels_to_msg(cloud, segmentation, header(stamps[i]), ROSBAGS_TYPES))
            values = {"mode": "student", "points": 3, "latency_ms": 9.5, "infer_ms": 4.5, "decide_ms": 1.25}
            bag.write("/segmenter/status", order, status(stamps[i], header, "labelled", **values))
        bag.write("/segmenter/status", 3, status(stamps[2], header, "dropped: overload", mode="student"))
    traffic = _Traffic(
        dict.fromkeys(keys, 1_000_000), {keys[i]: (8 + i) * 1_000_000 for i in (0, 1, 3)}, tmp_path / "recorded"
    )
    _read_status(traffic)
    session = Session(RunOptions(drive.path, str(height_model), tmp_path / "out"))
    with BagReader(drive.path) as reader:
        view = _score(session, session.open(reader), traffic)
    metrics = session.scores.metrics(session.pipeline.spec, "onnxruntime", "fp32")
    assert metrics["sweeps"] == {"input": 4, "output": 3}
    assert [s.latency_ms for s in session.scores.sweeps] == [7, 8, None, 10]
    assert metrics["stages_ms"] == {"infer": {"p50": 4.5, "p99": 4.5}, "decide": {"p50": 1.25, "p99": 1.25}}
    counted = sum(np.count_nonzero(truth != 255) for truth in drive.truths[:4])
    missed = np.count_nonzero(drive.truths[2] != 255)
    assert session.scores.confusion.counts[:, -1].sum() == missed, "perfect labels, and one sweep without any"
    assert sum(metrics["points"].values()) == counted
    assert traffic.notes() == ["status of 1 sweeps without labels: dropped: overload"]
    assert len(view.cloud) == len(drive.clouds[3])


def test_rejects_sweeps_with_equal_stamp_and_size(drive, height_model, tmp_path):
    session = Session(RunOptions(drive.path, str(height_model), tmp_path / "out"))
    with BagReader(drive.path) as reader:
        recording = session.open(reader)
        sweep = next(recording.sweeps())
        recording.sweeps = lambda: iter([sweep, sweep])
        traffic = _Traffic({(sweep.stamp_ns, len(sweep.cloud)): 1}, {}, drive.path)
        with pytest.raises(BagError, match="share stamp and size"):
            _score(session, recording, traffic)


@pytest.mark.parametrize(
    ("xyz", "label", "counts"),
    [
        ([5.0, 0, 0], 4, True),
        ([5.0, 0, 0], 255, False),
        ([0.0, 0, 0], 255, True),
        ([np.nan, 0, 0], 255, True),
        ([1.0, 0, 0], 255, True),
    ],
    ids=["labelled", "no labels", "zeros", "NaN", "nearer than the model's minimum range"],
)
def test_log_counts_labelled_clouds_by_their_usable_points(tmp_path, header, xyz, label, counts):
    cloud = PointCloud(np.full((50, 3), xyz, np.float32))
    nothing = np.zeros(50, np.float32)
    message = labels_to_msg(
        cloud, Segmentation(np.full(50, label, np.uint8), nothing, nothing), header(7), ROSBAGS_TYPES
    )
    with SweepLog(tmp_path / "log.jsonl", partial(usable_mask, min_range_m=2.0)) as log:
        log.message("/labels", message, 9)
    assert SweepLogReader(tmp_path / "log.jsonl").clouds("/labels") == ({(7, 50): 9} if counts else {})


def test_log_is_read_while_it_is_written(tmp_path):
    log = SweepLogReader(tmp_path / "log.jsonl")
    assert not log.has_event("ready")
    line = '{"topic": "/t", "stamp_ns": 5, "points": 7, "monotonic_ns": 9}\n'
    log.path.write_text('{"event": "ready"}\n' + line[:20])
    assert log.has_event("ready")
    assert log.clouds("/t") == {}
    log.path.write_text('{"event": "ready"}\n' + line + line.replace("7", "null") + line.replace("5", "6"))
    assert log.clouds("/t") == {(5, 7): 9, (6, 7): 9}
