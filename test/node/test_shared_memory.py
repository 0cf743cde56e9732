"""Shared memory of killed processes is released; that of running ones is not touched."""

import fcntl
import os
import signal
import subprocess
import sys

from xmodelkd_ros.node.shared_memory import remove_stale_segments

HOLD = """
import fcntl, os, sys, time
lock = open(sys.argv[1], "ab")
fcntl.flock(lock, fcntl.LOCK_SH)
print("held", flush=True)
time.sleep(60)
"""


def segment(folder, number, age_s=60, prefix="fastdds"):
    """A segment and its lock file of the given age."""
    memory = folder / f"{prefix}_{number:016x}"
    memory.write_bytes(bytes(10))
    lock = folder / f"{memory.name}_el"
    lock.touch()
    os.utime(lock, (os.stat(lock).st_mtime - age_s,) * 2)
    return memory, lock


def test_removes_segments_of_killed_processes(tmp_path):
    memory, lock = segment(tmp_path, 1)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    remove_stale_segments(tmp_path)
    assert memory.exists() and lock.exists()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    remove_stale_segments(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_keeps_new_segments_and_other_files(tmp_path):
    young = segment(tmp_path, 1, age_s=0)
    old, _ = segment(tmp_path, 2, prefix="fastrtps")
    others = [tmp_path / name for name in ("fastdds_port7001_el", "fastdds_port7001", "sem.mp-x", "notes_el")]
    for path in others:
        path.write_bytes(b"")
        os.utime(path, (0, 0))
    (tmp_path / f"fastdds_{3:016x}_el").mkdir()
    remove_stale_segments(tmp_path)
    assert not old.exists()
    assert all(path.exists() for path in (*young, *others))


def test_does_not_try_to_lock_new_files(tmp_path, monkeypatch):
    segment(tmp_path, 1, age_s=0)
    attempts = []
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: attempts.append(arguments))
    remove_stale_segments(tmp_path)
    assert attempts == []


def test_ignores_missing_folder_and_locked_files(tmp_path):
    remove_stale_segments(tmp_path / "nowhere")
    locked = segment(tmp_path, 1)[1].open("ab")
    fcntl.flock(locked, fcntl.LOCK_EX)
    remove_stale_segments(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
