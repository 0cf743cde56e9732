"""``xmodelkd faults``: injects faults of cameras, TF and clocks while the node runs in teacher mode, over DDS."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.mounted_cameras import MountedCamera
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.transform_tree import TransformTree, is_moving
from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.atomic_write import atomic_files, make_folder
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.fault_schedule import FAULTS, Fault, fault_schedule
from xmodelkd_ros.harness.node_process import node_arguments, usable_arguments
from xmodelkd_ros.harness.node_under_load import require_role
from xmodelkd_ros.harness.processes import Program, dds_environment, stop_all, wait_for, wait_for_count
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import Key, SweepLogReader
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.messages.topics import DIAGNOSTICS, SEGMENTER_LABELS, SEGMENTER_STATUS, STATIC_TF, TF
from xmodelkd_ros.reports.markdown import markdown_table
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.tools.session import prepared_for_node

_READY_TIMEOUT_S = 60.0
_WARM_UP_S = 2.0
_QUIET_S = 5.0
"""How long to wait for labels after the last ones arrived."""
_COLUMNS = (
    "fault", "expected", "observed", "cameras", "sweeps in", "out", "max latency", "diagnostics", "recovered after",
)  # fmt: skip
_METRICS_KEYS = {"observed": "seen", "duplicates": "twice"}
"""Keys of ``metrics.json`` that differ from the attributes of the outcomes."""


@dataclass(frozen=True)
class FaultTiming:
    """Durations in seconds of bag time.

    Attributes:
        fault_s: duration of each fault.
        rest_s: time without faults after each fault.
        rate: playback speed.
    """

    fault_s: float = 2.0
    rest_s: float = 2.0
    rate: float = 1.0


@dataclass(frozen=True)
class FaultOutcome:
    """Measurements during one fault.

    Attributes:
        fault: name of the fault.
        expected: expected mode.
        observed: mode of most sweeps in the second half of the fault.
        cameras: number of cameras that the teacher used for most of them.
        sweeps_in: sweeps published during the fault.
        sweeps_out: how many of them were labelled.
        worst_ms: maximum latency from publication to labels.
        diagnostics: distinct messages of the highest level on ``/diagnostics`` until 1 s after the end.
        recovery_s: time from the end to the first sweep labelled by the teacher with all cameras; None if there was
            none before the next fault.
    """

    fault: str
    expected: str
    observed: str
    cameras: int
    sweeps_in: int
    sweeps_out: int
    worst_ms: float
    diagnostics: tuple[str, ...]
    recovery_s: float | None

    @property
    def passed(self) -> bool:
        """Whether every sweep was labelled, in the expected mode, and the node recovered in time."""
        allowed = ("student", "teacher") if self.expected == "either" else (self.expected,)
        return self.sweeps_in == self.sweeps_out > 0 and self.observed in allowed and self.recovery_s is not None


@dataclass(frozen=True)
class DriveOutcome:
    """Sweeps and labels of the whole drive, including the rests.

    Attributes:
        sweeps_in: published sweeps.
        sweeps_out: how many of them were labelled.
        duplicates: labelled clouds received more than once.
        in_order: whether labels arrived in the order of the sweeps.
    """

    sweeps_in: int
    sweeps_out: int
    duplicates: int
    in_order: bool

    @property
    def passed(self) -> bool:
        """Whether every sweep was labelled once and in order."""
        return self.sweeps_in == self.sweeps_out and self.duplicates == 0 and self.in_order

    def line(self) -> str:
        """One line for the report."""
        order = "in order" if self.in_order else "OUT OF ORDER"
        duplicates = f"{self.duplicates} DUPLICATES" if self.duplicates else "no duplicates"
        return f"Whole drive: {self.sweeps_in} sweeps in, {self.sweeps_out} out, {duplicates}, {order}.\n"


def measure_faults(
    options: RunOptions, timing: FaultTiming, names: Sequence[str] = ()
) -> tuple[list[FaultOutcome], DriveOutcome]:
    """Play a bag with faults, and write ``faults.md`` and ``metrics.json``; returns the outcome by fault and of all.

    Args:
        options: bag, models and output folder; the mode is teacher.
        timing: duration of the faults.
        names: names of the faults; empty for all that can be injected here.

    Raises:
        XModelKDError: the bag or a model cannot be used, or a process failed.
    """
    unknown = sorted(set(names) - {fault.name for fault in FAULTS})
    if unknown:
        raise ConfigError(f"unknown fault {', '.join(unknown)}; choose from {', '.join(f.name for f in FAULTS)}")
    require_role(options)
    make_folder(options.out)
    with BagReader(options.bag) as reader, tempfile.TemporaryDirectory(prefix=".faults.", dir=options.out) as folder:
        recording = RecordedDrive(reader, options.points_topic, missing_intensity=options.intensity_policy())
        frame = recording.first_sweep().message.header.frame_id
        cameras = list(recording.mounted_cameras(frame).values())
        if not cameras:
            raise ConfigError(f"{options.bag} has no camera; give a bag with images, CameraInfo and /tf_static")
        fixed_frame, no_tf_reason = _fixed_frame(reader, frame)
        faults = [fault for fault in FAULTS if fault.name in names or not (names or (fault.needs_tf and no_tf_reason))]
        uses_tf = any(fault.needs_tf for fault in faults)
        if uses_tf and no_tf_reason:
            raise ConfigError(f"cannot inject faults of TF: {no_tf_reason}; leave them out")
        skipped = [f"{fault.name} is skipped: {no_tf_reason}" for fault in FAULTS if fault.needs_tf and no_tf_reason]
        print_notes([*reader.notes, *recording.notes, *skipped])
        camera_options = replace(options.camera_options, fixed_frame=fixed_frame if uses_tf else "")
        drive = _FaultyDrive(
            replace(prepared_for_node(options), camera_options=camera_options),
            timing,
            faults,
            recording.points_topic,
            cameras,
        )
        traffic = drive.play(Path(folder))
    outcomes = [traffic.fault_outcome(fault, len(cameras)) for fault in faults]
    whole = traffic.drive_outcome()
    _write(options, outcomes, whole)
    return outcomes, whole


def _write(options: RunOptions, outcomes: Sequence[FaultOutcome], whole: DriveOutcome) -> None:
    table = f"{as_table(outcomes)}\n{whole.line()}"
    with atomic_files(options.out, "faults.md") as unfinished:
        (unfinished / "faults.md").write_text(table, encoding="utf-8")
        metrics = {"faults": list(map(_metrics, outcomes)), "whole": _metrics(whole), "command": options.command}
        write_metrics(unfinished, metrics)
    print(table + f"\nwritten: {options.out / 'faults.md'}")


def _metrics(outcome: FaultOutcome | DriveOutcome) -> dict[str, object]:
    return {_METRICS_KEYS.get(name, name): value for name, value in asdict(outcome).items()}


def _fixed_frame(reader: BagReader, lidar_frame: str) -> tuple[str, str]:
    """Fixed frame in which TF describes the ego motion, or the reason why there is none."""
    if find_spec("tf2_ros") is None:
        return "", "tf2_ros is not installed"
    chain = TransformTree(reader, reader.start_ns).chain_above(lidar_frame)
    if not is_moving(chain):
        return "", f"{reader.path} has no moving transform of '{lidar_frame}' in /tf"
    return chain[-1][0], ""


def as_table(outcomes: Sequence[FaultOutcome]) -> str:
    """Markdown table of the outcomes."""
    rows = []
    for o in outcomes:
        recovery = "never" if o.recovery_s is None else f"{o.recovery_s:.1f} s"
        sweeps = (o.sweeps_in, o.sweeps_out, f"{o.worst_ms:.0f} ms")
        rows.append((o.fault, o.expected, o.observed, o.cameras, *sweeps, next(reversed(o.diagnostics), ""), recovery))
    return markdown_table(_COLUMNS, rows) + "\n"


@dataclass(frozen=True, eq=False)
class _Traffic:
    """Recorded traffic; times are monotonic nanoseconds.

    Attributes:
        sent: publication time of each sweep.
        received: arrival time of its labels.
        outputs: keys of all labelled clouds in order of arrival.
        status: mode and number of cameras of each sweep, by stamp.
        diagnostics: time of arrival, level and message.
        windows: start and end of each fault.
    """

    sent: Mapping[Key, int]
    received: Mapping[Key, int]
    outputs: Sequence[Key]
    status: Mapping[int, tuple[str, int]]
    diagnostics: Sequence[tuple[int, int, str]]
    windows: Mapping[str, tuple[int, int]]

    def drive_outcome(self) -> DriveOutcome:
        """Outcome of the whole drive."""
        labelled = [key for key in self.outputs if key in self.sent]
        first = list(dict.fromkeys(labelled))
        in_order = first == [key for key in self.sent if key in set(labelled)]
        return DriveOutcome(
            sweeps_in=len(self.sent), sweeps_out=len(first), duplicates=len(labelled) - len(first), in_order=in_order
        )

    def fault_outcome(self, fault: Fault, cameras: int) -> FaultOutcome:
        """Outcome of one fault, given the number of cameras in use without faults."""
        begin, end = self.windows[fault.name]
        during = [key for key, at in self.sent.items() if begin <= at < end]
        second_half = [key for key in during if self.sent[key] >= (begin + end) // 2]
        modes = Counter(self.status.get(stamp, ("none", 0)) for stamp, _ in second_half)
        observed, used_cameras = modes.most_common(1)[0][0] if modes else ("none", 0)
        latencies = [(self.received[key] - self.sent[key]) * 1e-6 for key in during if key in self.received]
        return FaultOutcome(
            fault=fault.name,
            expected=fault.expected,
            observed=observed,
            cameras=used_cameras,
            sweeps_in=len(during),
            sweeps_out=len(latencies),
            worst_ms=max(latencies, default=0.0),
            diagnostics=_most_severe(self.diagnostics, begin, end + 1_000_000_000),
            recovery_s=self._recovery_s(end, cameras),
        )

    def _recovery_s(self, end: int, cameras: int) -> float | None:
        next_fault = min((start for start, _ in self.windows.values() if start >= end), default=math.inf)
        recovered = [
            at
            for key, at in self.sent.items()
            if end <= at < next_fault and self.status.get(key[0]) == ("teacher", cameras) and key in self.received
        ]
        return (min(recovered) - end) * 1e-9 if recovered else None


def _most_severe(diagnostics: Sequence[tuple[int, int, str]], begin: int, end: int) -> tuple[str, ...]:
    """Distinct messages of the highest level within a time window, the latest last."""
    messages = [(level, text) for at, level, text in diagnostics if begin <= at < end]
    highest = max((level for level, _ in messages), default=0)
    return tuple(dict.fromkeys(text for level, text in reversed(messages) if level == highest))[::-1]


@dataclass(frozen=True, eq=False)
class _FaultyDrive:
    """Playback of a bag with faults."""

    options: RunOptions
    timing: FaultTiming
    faults: Sequence[Fault]
    points_topic: str
    cameras: Sequence[MountedCamera]

    def play(self, folder: Path) -> _Traffic:
        """Run node, recorders and player; the folder takes temporary files."""
        logs, env = self.options.out / "logs", dds_environment()
        sent, received, reported = (SweepLogReader(folder / f"{name}.jsonl") for name in ("sent", "labels", "status"))
        recorded = folder / "status.mcap"
        ros_arguments = node_arguments(self.options, self.points_topic, self.cameras)
        node = Program("node.segment_node", ros_arguments, env, logs / "node.log")
        label_arguments = ["--topics", SEGMENTER_LABELS, "--log", str(received.path)]
        label_arguments += usable_arguments(self.options)
        labels = Program("harness.recorder", label_arguments, env, logs / "labels.log")
        status_arguments = ["--topics", SEGMENTER_STATUS, DIAGNOSTICS, "--out", str(recorded), "--discard-unfinished"]
        status_arguments += ["--log", str(reported.path)]
        status = Program("harness.recorder", status_arguments, env, logs / "status.log")
        player = Program("harness.fault_player", self._player_arguments(sent.path), env, logs / "player.log")
        with ExitStack() as stack:
            running = [stack.enter_context(program) for program in (node, labels, status)]
            ready = (received, reported)
            wait_for(lambda: all(log.has_event("ready") for log in ready), running, _READY_TIMEOUT_S, "the node")
            running.append(stack.enter_context(player))
            wait_for(lambda: player.returncode is not None, running, self._timeout_s(), "the end of the bag")
            player.check()
            expected = len(sent.clouds(self.points_topic))
            wait_for_count(lambda: len(received.clouds(SEGMENTER_LABELS)), expected, _QUIET_S)
            stop_all(running)
        for program in (player, labels, status, node):
            program.check()
        statuses, diagnostics = _read_status(recorded, reported.path)
        return _Traffic(
            sent=sent.clouds(self.points_topic),
            received=received.clouds(SEGMENTER_LABELS),
            outputs=[key for key, _ in received.arrivals(SEGMENTER_LABELS)],
            status=statuses,
            diagnostics=diagnostics,
            windows=sent.fault_windows(),
        )

    def _timeout_s(self) -> float:
        names, timing = [fault.name for fault in self.faults], self.timing
        windows = fault_schedule(names, _WARM_UP_S, timing.fault_s, timing.rest_s)
        return 60 + 3 * (windows[-1].end_s + timing.rest_s) / timing.rate

    def _player_arguments(self, log: Path) -> list[str]:
        cameras = [f"{camera.image_topic}:{camera.info_topic}" for camera in self.cameras]
        uses_tf = bool(self.options.camera_options.fixed_frame)
        return [
            str(self.options.bag), "--points", self.points_topic, "--cameras", *cameras,
            "--faults", *(fault.name for fault in self.faults), "--rate", str(self.timing.rate),
            "--warm-up", str(_WARM_UP_S), "--fault-seconds", str(self.timing.fault_s),
            "--rest-seconds", str(self.timing.rest_s), "--timeout", "30", "--log", str(log),
            *(["--transforms", STATIC_TF, TF] if uses_tf else []),
        ]  # fmt: skip


def _read_status(recorded: Path, log: Path) -> tuple[dict[int, tuple[str, int]], list[tuple[int, int, str]]]:
    """Status of each sweep by stamp, and diagnostics with the monotonic time of their arrival."""
    rows = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    arrivals = [row["monotonic_ns"] for row in rows if row.get("topic") == DIAGNOSTICS]
    statuses: dict[int, tuple[str, int]] = {}
    diagnostics: list[tuple[int, int, str]] = []
    with BagReader(recorded) as reader:
        for topic, _, message in reader.messages([SEGMENTER_STATUS, DIAGNOSTICS]):
            (status,) = message.status
            if topic == DIAGNOSTICS:
                diagnostics.append((arrivals[len(diagnostics)], int(status.level), status.message))
                continue
            values = {pair.key: pair.value for pair in status.values}
            mode = values.get("mode", status.message)
            cameras = len(values.get("cameras", "").split(",")) if mode == "teacher" else 0
            statuses[stamp_ns(message.header.stamp)] = (mode, cameras)
    return statuses, diagnostics
