"""``xmodelkd load``: more sweeps than the node can label, other ones, other clocks, bad company; over real DDS.

What has to hold: labels come in the order of the sweeps, none twice; what gets no labels is counted by the node, with
the reason; neither time nor memory grows while it lasts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from xmodelkd_ros.bag import POINT_CLOUD_TYPE, BagReader, BagWriter
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.whole_file import whole_file
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.tools.process_use import Use, use_of
from xmodelkd_ros.tools.processes import ProcessError, Program, dds_environment, wait_for, wait_for_last
from xmodelkd_ros.tools.score import write_metrics
from xmodelkd_ros.tools.session import make_folder
from xmodelkd_ros.tools.synthetic_sweep import sweep_message, synthetic_sweep
from xmodelkd_ros.tools.traffic_log import Key, TrafficLog
from xmodelkd_ros.traffic import Arrival, Scenario, scenarios

_POINTS = "points"
_DIAGNOSTICS = "/diagnostics"
_READY_S = 60.0
_LATE_S = 1.0
"""A sweep is labelled in less, or never: most of these scenarios drop some."""
_REPORT_S = 1.5
"""Diagnostics come once a second: the last ones know all."""
_SAMPLE_S = 0.25
_SLOW_S = 0.5
_GROWTH = 2.0
_GROWTH_MS = 50.0
_GROWTH_MB = 64.0


@dataclass(frozen=True)
class NodeUnderLoad:
    """The node that is put under load.

    Attributes:
        model: name or path of its model.
        backend: library that runs the network.
        precision: precision to run it in.
    """

    model: str
    backend: str = "auto"
    precision: str = "auto"

    def arguments(self, name: str = "segmenter", sim_time: bool = False) -> list[str]:
        """Its command line."""
        parameters = {
            "model": find_model(self.model).resolve(),
            "backend": self.backend,
            "precision": self.precision,
            "use_sim_time": json.dumps(sim_time),
        }
        pairs = [text for key, value in parameters.items() for text in ("-p", f"{key}:={value}")]
        return ["--ros-args", *pairs, "-r", f"__node:={name}"]


@dataclass(frozen=True)
class Outcome:
    """What a node made of a scenario.

    Attributes:
        scenario: its name.
        node: the node's name.
        sweeps: how many were published.
        labelled: how many came back.
        said: how many the node says it has not labelled, by reason.
        in_order: whether labels came in the order of the sweeps, and none twice.
        p50_ms: median time from a sweep's publication to its labels; None where stamps do not tell sweeps apart.
        worst_ms: the longest one.
        growth: median of the last third of the labelled sweeps by that of the first third.
        memory_mb: the most that the node's process held.
        memory_growth_mb: how much of it was new in the second half.
    """

    scenario: str
    node: str
    sweeps: int
    labelled: int
    said: Mapping[str, int]
    in_order: bool
    p50_ms: float | None
    worst_ms: float | None
    growth: float | None
    memory_mb: float
    memory_growth_mb: float

    @property
    def unaccounted(self) -> int:
        """Sweeps that got no labels, and of which the node does not say so."""
        return self.sweeps - self.labelled - sum(self.said.values())

    @property
    def as_promised(self) -> bool:
        """Whether all held."""
        steady = self.growth is None or self.p50_ms is None or self.growth <= _GROWTH or self.p50_ms < _GROWTH_MS
        known = set(self.said) <= {"dropped.overload", "dropped.lost_in_transport"}
        held = self.unaccounted == 0 and self.in_order and self.labelled > 0
        return held and known and steady and self.memory_growth_mb < _GROWTH_MB


def measure_load(
    under: NodeUnderLoad, out: Path, points: int, seconds: float, names: Sequence[str] = (), command: str = ""
) -> list[Outcome]:
    """Put the node under each kind of load.

    Args:
        under: the node.
        out: folder of ``load.md`` and ``metrics.json``.
        points: of an everyday sweep.
        seconds: how long each scenario lasts.
        names: of the scenarios; none for all.
        command: the command line, for the report.

    Raises:
        XModelKDError: the model cannot be used, or a process failed.
    """
    every = scenarios(points, seconds)
    unknown = sorted(set(names) - {scenario.name for scenario in every})
    if unknown:
        raise ConfigError(f"no scenario {', '.join(unknown)}; there are {', '.join(s.name for s in every)}")
    make_folder(out)
    spec = ModelSpec.read(find_model(under.model))
    outcomes: list[Outcome] = []
    print(_HEAD, flush=True)
    for scenario in every:
        if not names or scenario.name in names:
            with TemporaryDirectory(prefix=".load.", dir=out) as folder:
                write_sweeps(Path(folder) / "sweeps.mcap", spec, {arrival.points for arrival in scenario.arrivals})
                outcomes += _Run(scenario, under, Path(folder), out / "logs" / scenario.name).outcomes()
            print("\n".join(_row(outcome) for outcome in outcomes if outcome.scenario == scenario.name), flush=True)
    _write(out, outcomes, every, command)
    return outcomes


def write_sweeps(path: Path, spec: ModelSpec, sizes: set[int]) -> None:
    """Write a bag with one synthetic sweep of each size, for the traffic player."""
    with BagWriter(path) as bag:
        bag.add_topic("/points", POINT_CLOUD_TYPE)
        for number, size in enumerate(sorted(sizes)):
            bag.write("/points", number, sweep_message(synthetic_sweep(spec.projection, size)))


def write_timetable(path: Path, arrivals: Sequence[Arrival]) -> None:
    """Write what the traffic player plays."""
    path.write_text("".join(json.dumps(asdict(arrival)) + "\n" for arrival in arrivals), encoding="utf-8")


# --- one scenario ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Run:
    """A scenario, played once."""

    scenario: Scenario
    under: NodeUnderLoad
    folder: Path
    logs: Path
    samples: dict[str, list[Use]] = field(default_factory=dict)
    sampled_s: float = 0.0

    def outcomes(self) -> list[Outcome]:
        """What came of it, of each node."""
        names = ["segmenter", *(f"segmenter_{k + 2}" for k in range(self.scenario.nodes - 1))]
        env, topics = dds_environment(), [f"/{name}/labels" for name in names]
        sent, received, said = (TrafficLog(self.folder / f"{name}.jsonl") for name in ("sent", "received", "said"))
        nodes = {
            name: Program(
                "segment_node", self.under.arguments(name, self.scenario.sim_time), env, self.logs / f"{name}.log"
            )
            for name in names
        }
        recorded = self.folder / "recorded.mcap"
        labels = Program("recorder", ["--topics", *topics, "--log", str(received.path)], env, self.logs / "labels.log")
        report_arguments = ["--topics", _DIAGNOSTICS, "--out", str(recorded), "--log", str(said.path)]
        reports = Program("recorder", report_arguments, env, self.logs / "reports.log")
        with ExitStack() as stack:
            running = [stack.enter_context(program) for program in (*nodes.values(), labels, reports)]
            wait_for(lambda: received.has_event("ready") and said.has_event("ready"), running, _READY_S, "the start")
            self._add_subscriber(stack, env, topics[0])
            self._play(stack, env, running, nodes, sent, received, topics)
        for program in running:
            program.check()
        counts = _last_reports(recorded)
        return [self._outcome(name, sent, received, counts) for name in names]

    def _add_subscriber(self, stack: ExitStack, env: Mapping[str, str], topic: str) -> None:
        if not self.scenario.subscriber:
            return
        log = TrafficLog(self.folder / "subscriber.jsonl")
        arguments = ["--topics", topic, "--log", str(log.path)]
        arguments += ["--pause", str(_SLOW_S)] if self.scenario.subscriber == "slow" else []
        program = stack.enter_context(Program("recorder", arguments, env, self.logs / "subscriber.log"))
        wait_for(lambda: log.has_event("ready"), [program], _READY_S, "the start of a subscriber")
        if self.scenario.subscriber == "dead":
            program.freeze()

    def _play(
        self,
        stack: ExitStack,
        env: Mapping[str, str],
        running: Sequence[Program],
        nodes: Mapping[str, Program],
        sent: TrafficLog,
        received: TrafficLog,
        topics: Sequence[str],
    ) -> None:
        timetable = self.folder / "timetable.jsonl"
        write_timetable(timetable, self.scenario.arrivals)
        arguments = [str(self.folder / "sweeps.mcap"), str(timetable), "--subscribers", str(len(nodes))]
        player = Program("traffic_player", [*arguments, "--log", str(sent.path)], env, self.logs / "player.log")
        stack.enter_context(player)

        def ended() -> bool:
            self._sample(nodes)
            return player.returncode is not None

        wait_for(ended, running, 60 + 3 * self.scenario.arrivals[-1].at_s, "the end of the sweeps")
        player.check()
        wanted = len(sent.order(_POINTS)) * len(topics)
        wait_for_last(lambda: sum(len(received.order(topic)) for topic in topics), wanted, _LATE_S)
        time.sleep(_REPORT_S)

    def _sample(self, nodes: Mapping[str, Program]) -> None:
        if time.monotonic() - self.sampled_s < _SAMPLE_S:
            return
        self.sampled_s = time.monotonic()
        for name, node in nodes.items():
            use = use_of(node.pid)
            if use is not None:
                self.samples.setdefault(name, []).append(use)

    def _outcome(
        self, name: str, sent: TrafficLog, received: TrafficLog, counts: Mapping[str, Mapping[str, int]]
    ) -> Outcome:
        topic = f"/{name}/labels"
        went, came = sent.order(_POINTS), received.order(topic)
        latencies = _latencies_ms(went, sent.clouds(_POINTS), received.clouds(topic))
        third = max(len(latencies) // 3, 1)
        memory = [use.memory_mb for use in self.samples[name]]
        half = len(memory) // 2
        return Outcome(
            self.scenario.name,
            name,
            len(went),
            len(came),
            counts.get(name, {}),
            _is_in_order(went, came),
            float(np.median(latencies)) if latencies else None,
            max(latencies, default=None),
            float(np.median(latencies[-third:]) / np.median(latencies[:third])) if latencies else None,
            max(memory),
            max(memory[half:]) - max(memory[: half + 1]),
        )


def _latencies_ms(went: Sequence[Key], sent: Mapping[Key, int], received: Mapping[Key, int]) -> list[float]:
    """Of the sweeps that came back, as they went; empty where two have one stamp and size."""
    if len(set(went)) < len(went):
        return []
    return [(received[key] - sent[key]) / 1e6 for key in went if key in received]


def _is_in_order(went: Sequence[Key], came: Sequence[Key]) -> bool:
    """Whether one is the other with gaps."""
    left = iter(went)
    return all(any(key == other for other in left) for key in came)


def _last_reports(recorded: Path) -> dict[str, dict[str, int]]:
    """What each node has not labelled, by reason, as its last diagnostics say."""
    counts: dict[str, dict[str, int]] = {}
    with BagReader(recorded) as reader:
        for _, _, message in reader.messages([_DIAGNOSTICS]):
            for status in message.status:
                values = {pair.key: pair.value for pair in status.values}
                counts[status.name.split(":")[0]] = {
                    key: int(value) for key, value in values.items() if key.startswith(("dropped.", "unlabelled."))
                }
    if not counts:
        raise ProcessError("no node published diagnostics; look at the logs of the nodes")
    return counts


# --- the table -------------------------------------------------------------------------------------------------------

_COLUMNS = (
    "scenario", "node", "sweeps", "labelled", "not labelled, as the node says", "unaccounted", "p50, ms", "worst, ms",
    "memory, MB", "as promised",
)  # fmt: skip
_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


def _row(outcome: Outcome) -> str:
    said = ", ".join(f"{count} {reason}" for reason, count in outcome.said.items()) or "0"
    times = ("-" if value is None else f"{value:.0f}" for value in (outcome.p50_ms, outcome.worst_ms))
    cells = (
        outcome.scenario,
        outcome.node,
        outcome.sweeps,
        outcome.labelled,
        said,
        outcome.unaccounted,
        *times,
        f"{outcome.memory_mb:.0f} (+{max(outcome.memory_growth_mb, 0):.0f})",
        "yes" if outcome.as_promised else "NO",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _write(out: Path, outcomes: Sequence[Outcome], every: Sequence[Scenario], command: str) -> None:
    what = "".join(f"* `{scenario.name}`: {scenario.what}\n" for scenario in every)
    table = "\n".join([_HEAD, *(_row(outcome) for outcome in outcomes)])
    with whole_file(out / "load.md") as unfinished:
        unfinished.write_text(f"{table}\n\n{what}", encoding="utf-8")
    rows: list[dict[str, Any]] = [
        {**asdict(outcome), "unaccounted": outcome.unaccounted, "as_promised": outcome.as_promised}
        for outcome in outcomes
    ]
    write_metrics(out, {"load": rows, "command": command})
    print(f"\nwritten: {out / 'load.md'}")
