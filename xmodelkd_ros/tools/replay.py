"""``xmodelkd replay``: plays a bag to the running node over DDS and scores its labels.

Three processes, as on a vehicle: the node, a player in place of the drivers, and a recorder in place of a consumer.
Player and recorder log each message with the monotonic clock, so latency includes the transport in both directions.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.mounted_cameras import MountedCamera
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.errors import BagError
from xmodelkd_ros.core.findings import FindingLog, from_values
from xmodelkd_ros.harness.node_process import node_arguments, stages_ms, usable_arguments
from xmodelkd_ros.harness.processes import ProcessError, Program, dds_environment, stop_all, wait_for, wait_for_count
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import Key, SweepLogReader
from xmodelkd_ros.messages.clouds import read_segmentation
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.messages.topics import LABELLED_STATUS, SEGMENTER_LABELS, SEGMENTER_STATUS, STATIC_TF, TF
from xmodelkd_ros.reports.sweep_plots import SweepView
from xmodelkd_ros.resources import AUTO_SENSOR
from xmodelkd_ros.tools.session import Session

_READY_TIMEOUT_S = 60.0
_QUIET_S = 5.0
"""How long to wait for labels after the last ones arrived."""
_LATENCY = "from just before publication of the sweep to arrival of its labels in another process"


def replay(options: RunOptions, rate: float = 1.0) -> dict[str, Any]:
    """Play a bag to the node, score its labels, and write the report; returns the content of ``metrics.json``.

    Raises:
        XModelKDError: the bag or the model cannot be used, a process failed, or no sweep was labelled.
    """
    # Loads the model and the first sweep before any process starts, so that errors are reported directly.
    with ExitStack() as stack:
        reader = stack.enter_context(BagReader(options.bag))
        session = Session(options)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".replay.", dir=options.out))
        recording = session.open(reader)
        recording.first_sweep()
        # The same back end in the node. Not the precision: with auto, teacher and student may have different ones.
        options = replace(options, backend=session.pipeline.backend.name)
        traffic = _play(options, rate, recording, session.pipeline.spec.cameras, Path(folder))
        view = _score(session, recording, traffic)
        session.add_notes(reader.notes + recording.notes + traffic.notes())
    warnings = traffic.findings.notes()
    activity = f"replayed through the node at rate {rate:g}"
    return session.report(activity, _LATENCY, view, warnings, traffic.start_s, traffic.sensor)


# --- playback ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Traffic:
    """Recorded traffic.

    Attributes:
        sent: publication time of each sweep, monotonic nanoseconds.
        received: arrival time of its labels, monotonic nanoseconds.
        recorded: bag with labels and status of the node.
        start_s: seconds from the start of the node's process until the recorder was subscribed to its outputs.
        status: mode and stage milliseconds of each sweep, by stamp.
        problems: number of sweeps without labels, by the status message of the node.
        findings: the node's warnings about its input.
        sensor: what the node took the LiDAR for, if it estimates that.
    """

    sent: dict[Key, int]
    received: dict[Key, int]
    recorded: Path
    start_s: float = 0.0
    status: dict[int, tuple[str, dict[str, float]]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    findings: FindingLog = field(default_factory=FindingLog)
    sensor: dict[str, Any] | None = None

    def notes(self) -> list[str]:
        """Notes about sweeps without labels."""
        return [f"status of {count} sweeps without labels: {problem}" for problem, count in self.problems.items()]


def _play(options: RunOptions, rate: float, recording: RecordedDrive, max_cameras: int, folder: Path) -> _Traffic:
    """Run the three processes until the last labels arrive."""
    logs, env = options.out / "logs", dds_environment()
    sent, received = SweepLogReader(folder / "sent.jsonl"), SweepLogReader(folder / "received.jsonl")
    recorded = folder / "recorded.mcap"
    cameras = _cameras(options, recording, max_cameras)
    node = Program(
        "node.segment_node", node_arguments(options, recording.points_topic, cameras), env, logs / "node.log"
    )
    recorder_arguments = [
        "--topics", SEGMENTER_LABELS, SEGMENTER_STATUS, "--out", str(recorded), "--discard-unfinished",
        "--log", str(received.path), *usable_arguments(options),
    ]  # fmt: skip
    recorder = Program("harness.recorder", recorder_arguments, env, logs / "recorder.log")
    played = [camera for camera in cameras if camera.model.name not in options.camera_options.dropped]
    topics = [recording.points_topic, *(t for camera in played for t in (camera.image_topic, camera.info_topic))]
    topics += (STATIC_TF, TF) if options.camera_options.fixed_frame and cameras else ()
    player = Program(
        "harness.bag_player", _player_arguments(options.bag, rate, topics, sent.path), env, logs / "player.log"
    )
    with ExitStack() as stack:
        begin = time.monotonic()
        running = [stack.enter_context(node), stack.enter_context(recorder)]
        wait_for(lambda: received.has_event("ready"), running, _READY_TIMEOUT_S, "the node")
        start_s = time.monotonic() - begin
        running.append(stack.enter_context(player))
        _follow(recording, rate, player, running, sent, received)
        stop_all(running)
    for program in (player, recorder, node):
        program.check()
    traffic = _Traffic(sent.clouds(recording.points_topic), received.clouds(SEGMENTER_LABELS), recorded, start_s)
    if not traffic.received:
        raise ProcessError(f"the node labelled none of {len(traffic.sent)} sweeps: {node.output_tail()}")
    _read_status(traffic)
    return traffic


def _cameras(options: RunOptions, recording: RecordedDrive, max_cameras: int) -> list[MountedCamera]:
    """Cameras configured for a teacher, including the dropped ones.

    Raises:
        BagError: the bag has no camera, or the model takes fewer than are used.
    """
    if options.mode != "teacher":
        return []
    frame = recording.first_sweep().message.header.frame_id
    cameras = list(recording.mounted_cameras(frame).values())
    if not cameras:
        raise BagError(f"{options.bag} has no camera for a teacher; replay it with --mode student")
    used = options.camera_options.select([camera.model.name for camera in cameras], max_cameras)
    return [camera for camera in cameras if camera.model.name in used]


def _player_arguments(bag: Path, rate: float, topics: Sequence[str], log: Path) -> list[str]:
    topics = list(dict.fromkeys(topics))
    return [
        str(bag), "--rate", str(rate), "--topics", *topics, "--clock",
        "--wait-for-subscribers", *(f"{topic}:1" for topic in topics), "--timeout", "30", "--log", str(log),
    ]  # fmt: skip


def _follow(
    recording: RecordedDrive,
    rate: float,
    player: Program,
    running: Sequence[Program],
    sent: SweepLogReader,
    received: SweepLogReader,
) -> None:
    """Wait for the end of the player, then for outstanding labels."""
    bar = progress(None, recording.count, "replay")

    def has_ended() -> bool:
        bar.update(len(received.clouds(SEGMENTER_LABELS)) - bar.n)
        return player.returncode is not None

    with bar:
        wait_for(has_ended, running, 60 + 3 * recording.duration_s / rate, "the end of the bag")
        player.check()
        wait_for_count(
            lambda: len(received.clouds(SEGMENTER_LABELS)), len(sent.clouds(recording.points_topic)), _QUIET_S
        )


# --- scoring ---------------------------------------------------------------------------------------------------------


def _score(session: Session, recording: RecordedDrive, traffic: _Traffic) -> SweepView | None:
    """Match sweeps and labels by stamp and number of points and score them; returns the view of the middle sweep."""
    view, scores = None, session.scores
    scored: set[Key] = set()
    with BagReader(traffic.recorded) as reader:
        labelled = _LabelledClouds(reader)
        for sweep in recording.sweeps():
            key = (sweep.stamp_ns, len(sweep.cloud))
            if key in scored:
                raise BagError(f"two sweeps of {session.options.bag} share stamp and size; score it with evaluate")
            if key not in traffic.sent:
                continue
            scored.add(key)
            if key not in traffic.received:
                scores.add_missing(sweep.truth, session.scored_truth(sweep))
                continue
            segmentation = labelled.take(key)
            _add(session, sweep, segmentation, traffic, key)
            if view is None and 2 * len(scores.sweeps) > len(traffic.sent):
                view = session.view(recording, sweep, segmentation.label)
    return view


def _add(session: Session, sweep: RecordedSweep, segmentation: Segmentation, traffic: _Traffic, key: Key) -> None:
    latency_ms = (traffic.received[key] - traffic.sent[key]) / 1e6
    mode, stages = traffic.status.get(sweep.stamp_ns, ("student", {}))
    session.scores.add(
        sweep.cloud,
        segmentation,
        sweep.truth,
        scored_truth=session.scored_truth(sweep),
        stages_ms=stages,
        latency_ms=latency_ms,
        mode=mode,
    )


class _LabelledClouds:
    """Labelled clouds of a recording, looked up by key and buffered until they are needed."""

    def __init__(self, reader: BagReader) -> None:
        self._messages = self._decoded(reader)
        self._buffered: dict[Key, Segmentation] = {}

    def take(self, key: Key) -> Segmentation:
        """Remove and return the labels of a sweep, which must be recorded."""
        while key not in self._buffered:
            other, segmentation = next(self._messages)
            self._buffered[other] = segmentation
        return self._buffered.pop(key)

    @staticmethod
    def _decoded(reader: BagReader) -> Iterator[tuple[Key, Segmentation]]:
        for _, _, msg in reader.messages([SEGMENTER_LABELS]):
            segmentation = read_segmentation(msg)
            yield (stamp_ns(msg.header.stamp), len(segmentation)), segmentation


def _read_status(traffic: _Traffic) -> None:
    """Read mode and stage times of each sweep, and the drops, from the node's status topic."""
    with BagReader(traffic.recorded) as reader:
        for _, _, msg in reader.messages([SEGMENTER_STATUS]):
            for status in msg.status:
                values = {pair.key: pair.value for pair in status.values}
                if not status.message.startswith(LABELLED_STATUS):
                    traffic.problems[status.message] += 1
                else:
                    stamp = stamp_ns(msg.header.stamp)
                    traffic.status[stamp] = (values.get("mode", "student"), stages_ms(values))
                    traffic.findings.add(from_values(values))
                    if "sensor" in values:
                        traffic.sensor = {"source": AUTO_SENSOR, "description": values["sensor"]}
