"""Killed bag writers and full disks: recordings are recoverable, other bags are complete or absent."""

import json
import signal
import time

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import BagReader

PLAYER, RECORDER = "xmodelkd_ros.harness.bag_player", "xmodelkd_ros.harness.recorder"
COMMAND, TO_BAG, WORLD = "xmodelkd_ros.tools.cli", "training.to_bag", "training.world"
S = 1_000_000_000


@pytest.fixture
def record(start, drive, wait_until, tmp_path):
    """Starts a recorder of a looped drive; returns it and a function that gives the arrival times."""
    log = tmp_path / "log.jsonl"

    def arrivals():
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [row["monotonic_ns"] for row in rows if "topic" in row]

    def record(topic, out, **where):
        start(PLAYER, drive, "--loop", "--rate", "5", "--clock")
        recorder = start(RECORDER, "--topics", topic, "--out", out, "--log", log, **where)
        wait_until(lambda: arrivals() or recorder.process.poll() is not None, "a message")
        return recorder, arrivals

    return record


def recovered_times(start, unfinished, out):
    """Log times of the messages recovered by ``xmodelkd recover``."""
    command = start(COMMAND, "recover", unfinished, out)
    assert command.end() == 0, command.output_text
    with BagReader(out) as bag:
        times = [message.log_time_ns for message in bag.messages()]
    *lost, saved = command.output_text.splitlines()
    assert saved == f"{out}: {len(times)} messages"
    assert len(lost) <= 1 and all("hold no complete record and are lost" in line for line in lost)
    return times


def test_killed_recorder_loses_at_most_last_second(record, start, tmp_path):
    """Also for a topic with small messages, of which a chunk holds minutes."""
    out = tmp_path / "bags" / "drive.mcap"
    recorder, arrivals = record("/clock", out)
    time.sleep(2.5)
    recorder.kill()
    killed_ns = time.monotonic_ns()
    (unfinished,) = out.parent.iterdir()
    assert unfinished.name.startswith("drive.mcap.unfinished-")
    readable = start(COMMAND, "fit-sensor", unfinished / "drive" / "drive.mcap")
    saved = recovered_times(start, unfinished, tmp_path / "saved.mcap")
    assert len(saved) > 50 and saved == sorted(saved)
    lost = arrivals()[len(saved) :]
    assert all(killed_ns - arrival < 1.5 * S for arrival in lost), "only the last second is lost"
    assert readable.end() == 1
    (line,) = readable.lines
    assert "has no PointCloud2 topic with messages; it has /clock" in line and "'xmodelkd recover " in line


def test_recorder_on_full_disk_reports_error_and_keeps_recording(record, start, machine, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    machine.small_disk(disk, 4_000_000)
    machine.path(disk / "before.mcap").write_bytes(b"an older recording")
    recorder, arrivals = record("/points", disk / "drive.mcap", machine=machine)
    assert recorder.end() == 1
    (line,) = recorder.lines
    left = {path.name for path in machine.path(disk).iterdir()} - {"before.mcap"}
    (unfinished,) = left
    assert line == (
        f"error: cannot write bag {disk}/drive.mcap: No space left on device; "
        f"'xmodelkd recover {disk}/{unfinished} OUT' saves what was recorded"
    )
    assert machine.path(disk / "before.mcap").read_bytes() == b"an older recording"
    saved = recovered_times(start, machine.path(disk / unfinished), tmp_path / "saved.mcap")
    assert len(arrivals()) - 60 < len(saved) > 20, "a second of it, and what did not fit, is lost"


def test_full_disk_of_log_ends_player_with_one_line(start, drive, machine, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    machine.small_disk(disk, 65536)
    machine.fill(disk)
    player = start(PLAYER, drive, "--log", disk / "log", machine=machine)
    assert player.end() == 1
    assert player.lines == [f"error: cannot write log {disk}/log: No space left on device"]


# --- bags that can be rewritten ---------------------------------------------------------------------------------------


@pytest.fixture
def kitti(tmp_path):
    """A sequence of 400 sweeps in SemanticKITTI's layout."""
    folder, sweeps = tmp_path / "kitti" / "sequences" / "08", 400
    points = np.random.default_rng(0).uniform(1, 20, (4000, 4)).astype("<f4")
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    for k in range(sweeps):
        (folder / "velodyne" / f"{k:06d}.bin").write_bytes(points.tobytes())
        (folder / "labels" / f"{k:06d}.label").write_bytes(np.full(4000, 40, "<u4").tobytes())
    camera = "50 0 32 0 0 50 24 0 0 0 1 0"
    (folder / "calib.txt").write_text(f"P2: {camera}\nP3: {camera}\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * sweeps)
    (folder / "times.txt").write_text("".join(f"{0.1 * k:.6e}\n" for k in range(sweeps)))
    return folder


def test_killed_export_leaves_no_bag_and_can_be_repeated(start, kitti, wait_until, tmp_path):
    out = tmp_path / "bags" / "drive"
    words = ["semantickitti", kitti, out]
    writer = start(TO_BAG, *words)
    wait_until(lambda: list(out.parent.glob("drive.unfinished-*/*/drive.*")), "the file")
    writer.kill()
    assert writer.end() == -signal.SIGKILL
    assert [path.name.split("-")[0] for path in out.parent.iterdir()] == ["drive.unfinished"]
    assert start(TO_BAG, *words, "--frames", "0:9").end() == 0
    with BagReader(out) as bag:
        assert bag.topics["/points"].count == 9


def test_export_to_full_disk_gives_one_line_and_no_bag(start, kitti, machine, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    machine.small_disk(disk, 4_000_000)
    machine.path(disk / "before").write_bytes(b"")
    command = start(TO_BAG, "semantickitti", kitti, disk / "drive.mcap", machine=machine)
    assert command.end() == 1
    assert command.lines[-1:] == [f"error: cannot write bag {disk}/drive.mcap: No space left on device"]
    assert [path.name for path in machine.path(disk).iterdir()] == ["before"]


def test_killed_world_generation_leaves_no_drive_and_no_bag(start, wait_until, tmp_path):
    pytest.importorskip("embreex")
    words = ["--seed", "9", "--sweeps", "2", "--cameras", "0"]
    world = start(WORLD, *words, "--out", tmp_path / "drive", "--bag", tmp_path / "bags" / "drive.mcap")
    wait_until((tmp_path / "bags").is_dir, "its beginning")
    time.sleep(0.5)
    world.kill()
    assert world.end() == -signal.SIGKILL
    assert not (tmp_path / "drive").exists() and not list((tmp_path / "bags").iterdir())
