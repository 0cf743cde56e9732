"""``xmodelkd faults``: what the node in teacher mode makes of cameras and clocks that fail, measured over real DDS."""

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
from xmodelkd_ros.harness.fault_schedule import FAULTS, Fault, schedule
from xmodelkd_ros.harness.node_process import node_arguments
from xmodelkd_ros.harness.processes import Program, dds_environment, wait_for, wait_for_count
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import SweepLogReader
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.messages.topics import DIAGNOSTICS, SEGMENTER_LABELS, SEGMENTER_STATUS, STATIC_TF, TF
from xmodelkd_ros.reports.markdown import markdown_table
from xmodelkd_ros.reports.scores import write_metrics

_READY_S = 60.0
_WARM_UP_S = 2.0
_LATE_S = 5.0


@dataclass(frozen=True)
class Timing:
    """How long faults last, seconds of the bag's time.

    Attributes:
        fault_s: each.
        rest_s: the time after each in which all is well.
        rate: how fast the bag is played.
    """

    fault_s: float = 2.0
    rest_s: float = 2.0
    rate: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What came of one fault.

    Attributes:
        fault: its name.
        expected: the mode that should have served, towards its end.
        seen: the mode that did, for most sweeps of its second half.
        cameras: how many cameras the teacher saw in most of these.
        sweeps_in: sweeps published while it lasted.
        sweeps_out: how many of them came back labelled.
        worst_ms: longest time from a sweep's publication to its labels.
        diagnostics: the gravest messages on ``/diagnostics``, up to a second after its end, each once.
        recovery_s: from its end to the first sweep that the teacher labelled with all cameras; None if there was none
            before the next fault.
    """

    fault: str
    expected: str
    seen: str
    cameras: int
    sweeps_in: int
    sweeps_out: int
    worst_ms: float
    diagnostics: tuple[str, ...]
    recovery_s: float | None

    @property
    def as_promised(self) -> bool:
        """Whether every sweep got labels, in the mode that was expected, and all was well again in time."""
        seen = self.seen in ("student", "teacher") if self.expected == "either" else self.seen == self.expected
        return self.sweeps_in == self.sweeps_out > 0 and seen and self.recovery_s is not None


@dataclass(frozen=True)
class Whole:
    """What came of the whole drive, between the faults too.

    Attributes:
        sweeps_in: sweeps published.
        sweeps_out: how many of them came back labelled.
        twice: labelled clouds that came once more.
        in_order: whether they came in the order of the sweeps.
    """

    sweeps_in: int
    sweeps_out: int
    twice: int
    in_order: bool

    @property
    def as_promised(self) -> bool:
        """Whether every sweep came back, once and in order."""
        return self.sweeps_in == self.sweeps_out and self.twice == 0 and self.in_order

    def line(self) -> str:
        """The same for people."""
        found = f"All in all {self.sweeps_in} sweeps in, {self.sweeps_out} out"
        order = "in order" if self.in_order else "IN ANOTHER ORDER"
        return f"{found}, {f'{self.twice} TWICE' if self.twice else 'each once'} and {order}.\n"


def measure_faults(options: RunOptions, timing: Timing, names: Sequence[str] = ()) -> tuple[list[Outcome], Whole]:
    """Play a bag while cameras and clocks fail, and see what the node makes of it.

    Args:
        options: bag and models; the mode is teacher.
        timing: how long faults last.
        names: of the faults; none for all.

    Returns:
        What came of each, and of all the drive, also written to ``faults.md`` and ``metrics.json``.

    Raises:
        XModelKDError: the bag or a model cannot be used, or a process failed.
    """
    unknown = sorted(set(names) - {fault.name for fault in FAULTS})
    if unknown:
        raise ConfigError(f"no fault {', '.join(unknown)}; there are {', '.join(fault.name for fault in FAULTS)}")
    make_folder(options.out)
    with BagReader(options.bag) as reader, tempfile.TemporaryDirectory(prefix=".faults.", dir=options.out) as folder:
        recording = RecordedDrive(reader, options.points_topic)
        frame = recording.first_sweep().message.header.frame_id
        rig = list(recording.mounted_cameras(frame).values())
        if not rig:
            raise ConfigError(f"{options.bag} has no camera that could fail; give a bag with images")
        fixed_frame, without_tf = _fixed_frame(reader, frame)
        chosen = [fault for fault in FAULTS if fault.name in names or not (names or (fault.needs_tf and without_tf))]
        looks_at_tf = any(fault.needs_tf for fault in chosen)
        if looks_at_tf and without_tf:
            raise ConfigError(f"faults of TF cannot be shown: {without_tf}; leave them out")
        left_out = [f"{fault.name} is left out: {without_tf}" for fault in FAULTS if fault.needs_tf and without_tf]
        print_notes([*reader.notes, *recording.notes, *left_out])
        options = replace(
            options, camera_options=replace(options.camera_options, fixed_frame=fixed_frame if looks_at_tf else "")
        )
        traffic = _play(options, timing, chosen, recording, rig, Path(folder))
    outcomes = [traffic.outcome(fault, len(rig)) for fault in chosen]
    whole = traffic.whole()
    table = f"{as_table(outcomes)}\n{whole.line()}"
    with atomic_files(options.out, "faults.md") as unfinished:
        (unfinished / "faults.md").write_text(table, encoding="utf-8")
        found = {"faults": [asdict(outcome) for outcome in outcomes], "whole": asdict(whole)}
        write_metrics(unfinished, {**found, "command": options.command})
    print(table + f"\nwritten: {options.out / 'faults.md'}")
    return outcomes, whole


def _fixed_frame(reader: BagReader, lidar_frame: str) -> tuple[str, str]:
    """The frame in which TF says how the vehicle moves, and why there is no such thing, if so."""
    if find_spec("tf2_ros") is None:
        return "", "tf2_ros is not installed"
    chain = TransformTree(reader, reader.start_ns).chain_above(lidar_frame)
    if not is_moving(chain):
        return "", f"no /tf of {reader.path} says how '{lidar_frame}' moves"
    return chain[-1][0], ""


def as_table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table in Markdown."""
    head = (
        *("fault", "expected", "seen", "cameras", "sweeps in"),
        *("out", "worst latency", "diagnostics", "well again after"),
    )
    rows = []
    for o in outcomes:
        again = "never" if o.recovery_s is None else f"{o.recovery_s:.1f} s"
        rows.append(
            (
                o.fault,
                o.expected,
                o.seen,
                o.cameras,
                o.sweeps_in,
                o.sweeps_out,
                f"{o.worst_ms:.0f} ms",
                next(reversed(o.diagnostics), ""),
                again,
            )
        )
    return markdown_table(head, rows) + "\n"


@dataclass(eq=False)
class _Traffic:
    """What went in and out, by the machine's monotonic clock.

    Attributes:
        sent: nanoseconds at which each sweep was published, by stamp and points.
        received: the same of its labels.
        outputs: stamp and points of all labelled clouds, as they came.
        status: of each sweep, by its stamp: the mode, and the cameras.
        diagnostics: level and message, by nanoseconds of arrival.
        windows: begin and end of each fault.
    """

    sent: Mapping[tuple[int, int], int]
    received: Mapping[tuple[int, int], int]
    outputs: Sequence[tuple[int, int]]
    status: Mapping[int, tuple[str, int]]
    diagnostics: Sequence[tuple[int, int, str]]
    windows: Mapping[str, tuple[int, int]]

    def whole(self) -> Whole:
        """What came of the whole drive."""
        came = [key for key in self.outputs if key in self.sent]
        first = list(dict.fromkeys(came))
        in_order = first == [key for key in self.sent if key in set(came)]
        return Whole(len(self.sent), len(first), len(came) - len(first), in_order)

    def outcome(self, fault: Fault, cameras: int) -> Outcome:
        """What came of a fault."""
        begin, end = self.windows[fault.name]
        during = [key for key, at in self.sent.items() if begin <= at < end]
        late = [key for key in during if self.sent[key] >= (begin + end) // 2]
        modes = Counter(self.status.get(stamp, ("none", 0)) for stamp, _ in late)
        seen, count = modes.most_common(1)[0][0] if modes else ("none", 0)
        latencies = [(self.received[key] - self.sent[key]) * 1e-6 for key in during if key in self.received]
        following = min((start for start, _ in self.windows.values() if start >= end), default=math.inf)
        well = [
            at
            for (stamp, points), at in sorted(self.sent.items(), key=lambda item: item[1])
            if end <= at < following
            and self.status.get(stamp) == ("teacher", cameras)
            and (stamp, points) in self.received
        ]
        said = [(level, text) for at, level, text in self.diagnostics if begin <= at < end + 1_000_000_000]
        return Outcome(
            fault.name,
            fault.expected,
            seen,
            count,
            len(during),
            len(latencies),
            max(latencies, default=0.0),
            _gravest(said),
            (well[0] - end) * 1e-9 if well else None,
        )


def _gravest(said: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """The messages of the highest level, the latest last."""
    highest = max((level for level, _ in said), default=0)
    return tuple(dict.fromkeys(text for level, text in reversed(said) if level == highest))[::-1]


def _play(
    options: RunOptions,
    timing: Timing,
    faults: Sequence[Fault],
    recording: RecordedDrive,
    rig: Sequence[MountedCamera],
    folder: Path,
) -> _Traffic:
    logs, env = options.out / "logs", dds_environment()
    sent, received, said = (SweepLogReader(folder / f"{name}.jsonl") for name in ("sent", "received", "said"))
    recorded = folder / "recorded.mcap"
    node = Program("node.segment_node", node_arguments(options, recording.points_topic, rig), env, logs / "node.log")
    labels = Program(
        "harness.recorder", ["--topics", SEGMENTER_LABELS, "--log", str(received.path)], env, logs / "labels.log"
    )
    status_arguments = ["--topics", SEGMENTER_STATUS, DIAGNOSTICS, "--out", str(recorded), "--discard-unfinished"]
    status_arguments += ["--log", str(said.path)]
    status = Program("harness.recorder", status_arguments, env, logs / "status.log")
    names = [fault.name for fault in faults]
    arguments = _player_arguments(options, timing, names, recording, rig, sent.path)
    arguments += ["--transforms", STATIC_TF, TF] if options.camera_options.fixed_frame else []
    player = Program("harness.fault_player", arguments, env, logs / "player.log")
    length_s = schedule(names, _WARM_UP_S, timing.fault_s, timing.rest_s)[-1].end_s + timing.rest_s
    with ExitStack() as stack:
        running = [stack.enter_context(program) for program in (node, labels, status)]
        wait_for(lambda: received.has_event("ready") and said.has_event("ready"), running, _READY_S, "the node's start")
        running.append(stack.enter_context(player))
        wait_for(lambda: player.returncode is not None, running, 60 + 3 * length_s / timing.rate, "the end of the bag")
        player.check()
        wait_for_count(
            lambda: len(received.clouds(SEGMENTER_LABELS)), len(sent.clouds(recording.points_topic)), _LATE_S
        )
    for program in (player, labels, status, node):
        program.check()
    statuses, diagnostics = _read(recorded, said.path)
    clouds = sent.clouds(recording.points_topic), received.clouds(SEGMENTER_LABELS)
    outputs = [key for key, _ in received.arrivals(SEGMENTER_LABELS)]
    return _Traffic(*clouds, outputs, statuses, diagnostics, sent.windows())


def _player_arguments(
    options: RunOptions,
    timing: Timing,
    names: Sequence[str],
    recording: RecordedDrive,
    rig: Sequence[MountedCamera],
    log: Path,
) -> list[str]:
    cameras = [f"{camera.image_topic}:{camera.info_topic}" for camera in rig]
    return [
        str(options.bag), "--points", recording.points_topic, "--cameras", *cameras, "--faults", *names,
        "--rate", str(timing.rate), "--warm-up", str(_WARM_UP_S), "--fault-seconds", str(timing.fault_s),
        "--rest-seconds", str(timing.rest_s), "--timeout", "30", "--log", str(log),
    ]  # fmt: skip


def _read(recorded: Path, log: Path) -> tuple[dict[int, tuple[str, int]], list[tuple[int, int, str]]]:
    """The status of each sweep by its stamp, and the diagnostics with the monotonic time of their arrival."""
    rows = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    arrivals = [row["monotonic_ns"] for row in rows if row.get("topic") == DIAGNOSTICS]
    status: dict[int, tuple[str, int]] = {}
    diagnostics: list[tuple[int, int, str]] = []
    with BagReader(recorded) as reader:
        for topic, _, message in reader.messages([SEGMENTER_STATUS, DIAGNOSTICS]):
            (said,) = message.status
            if topic == DIAGNOSTICS:
                diagnostics.append((arrivals[len(diagnostics)], int(said.level), said.message))
                continue
            values = {pair.key: pair.value for pair in said.values}
            mode = values.get("mode", said.message)
            status[stamp_ns(message.header.stamp)] = (
                mode,
                len(values.get("cameras", "").split(",")) if mode == "teacher" else 0,
            )
    return status, diagnostics
