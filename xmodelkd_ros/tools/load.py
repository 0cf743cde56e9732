"""``xmodelkd load``: load scenarios for the running node over DDS: overload, clock faults, slow subscribers.

Checked: labels arrive in the order of the sweeps, without duplicates and in bounded time; the node counts every sweep
that it does not label, with the reason; neither latency nor memory grows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.load_scenarios import Scenario, scenarios
from xmodelkd_ros.harness.node_process import node_arguments, usable_arguments
from xmodelkd_ros.harness.node_under_load import RELIABLE, read_reports, require_role, write_sweeps
from xmodelkd_ros.harness.process_usage import ProcessUsage, process_usage
from xmodelkd_ros.harness.processes import Program, dds_environment, stop_all, wait_for, wait_for_count
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import SweepLogReader
from xmodelkd_ros.messages.topics import DIAGNOSTICS, LABELS, POINTS, SEGMENTER, STATUS, output_topic
from xmodelkd_ros.tools.load_outcome import Outcome, ScenarioRun
from xmodelkd_ros.tools.load_report import TABLE_HEAD, table_row, write_report
from xmodelkd_ros.tools.session import prepared_for_node

_SCHEDULE_TOPIC = "points"
"""Name by which the schedule player logs sweeps."""
_BASELINE = "rate_10"
"""Scenario with which those with an additional subscriber are compared."""
_READY_TIMEOUT_S = 60.0
_QUIET_S = 2.0
"""Labels that take longer never arrive: some scenarios drop sweeps."""
_DIAGNOSTICS_S = 1.5
"""Diagnostics are published at 1 Hz: the last ones include all sweeps."""
_SAMPLE_PERIOD_S = 0.25
_SLOW_SUBSCRIBER_S = 0.5


def measure_load(options: RunOptions, points: int, seconds: float, names: Sequence[str] = ()) -> list[Outcome]:
    """Run load scenarios and write their report; returns one outcome per scenario and node.

    Args:
        options: model and output folder.
        points: number of points of a regular sweep.
        seconds: duration of most scenarios.
        names: names of the scenarios; empty for all. The baseline of a chosen scenario is added.

    Raises:
        XModelKDError: the model cannot be used, or a process failed.
    """
    every = scenarios(points, seconds)
    unknown = sorted(set(names) - {scenario.name for scenario in every})
    if unknown:
        raise ConfigError(f"unknown scenario {', '.join(unknown)}; choose from {', '.join(s.name for s in every)}")
    require_role(options)
    make_folder(options.out)
    options = prepared_for_node(options)
    chosen = [scenario for scenario in every if not names or scenario.name in names]
    if any(scenario.subscriber for scenario in chosen) and chosen[0].name != _BASELINE:
        chosen = [scenario for scenario in every if scenario.name == _BASELINE] + chosen
    outcomes: list[Outcome] = []
    print(TABLE_HEAD, flush=True)
    for scenario in chosen:
        with TemporaryDirectory(prefix=".load.", dir=options.out) as folder:
            baseline_ms = next((outcome.p50_ms for outcome in outcomes if outcome.scenario == _BASELINE), None)
            player = _ScenarioPlayer(scenario, options, Path(folder), options.out / "logs" / scenario.name)
            measured = [run.outcome() for run in player.play(baseline_ms)]
        print("\n".join(map(table_row, measured)), flush=True)
        outcomes += measured
    write_report(options.out, outcomes, every, options.command)
    return outcomes


@dataclass(eq=False)
class _ScenarioPlayer:
    """Runs the processes of one scenario."""

    scenario: Scenario
    options: RunOptions
    folder: Path
    logs: Path
    usage: dict[str, list[ProcessUsage]] = field(default_factory=dict)
    sampled_s: float = 0.0

    def __post_init__(self) -> None:
        self._env = dds_environment()
        names = [SEGMENTER, *(f"{SEGMENTER}_{k + 2}" for k in range(self.scenario.nodes - 1))]
        self._topics = {name: output_topic(LABELS, name) for name in names}
        self._nodes = {name: self._program("node.segment_node", self._node_arguments(name), name) for name in names}
        self._sent, self._received = self._log("sent"), self._log("received")

    def play(self, baseline_ms: float | None) -> list[ScenarioRun]:
        """Play the scenario once; returns one run per node."""
        names, topics = list(self._nodes), self._topics.values()
        sizes = sorted({sweep.points for sweep in self.scenario.sweeps})
        write_sweeps(self.folder / "sweeps.mcap", self.options.model, sizes)
        reported, recorded = self._log("reports"), self.folder / "reports.mcap"
        labels = self._recorder("labels", topics, self._received, *usable_arguments(self.options))
        report_topics = [DIAGNOSTICS, *(output_topic(STATUS, name) for name in names)]
        reports = self._recorder("reports", report_topics, reported, "--out", str(recorded))
        with ExitStack() as stack:
            running = [stack.enter_context(program) for program in (*self._nodes.values(), labels, reports)]
            ready = (self._received, reported)
            wait_for(lambda: all(log.has_event("ready") for log in ready), running, _READY_TIMEOUT_S, "the nodes")
            self._add_subscriber(stack)
            self._publish(stack, running)
            stop_all(running)
        for program in running:
            program.check()
        sent, node_reports = self._sent.arrivals(_SCHEDULE_TOPIC), read_reports(recorded, names)
        return [
            ScenarioRun(
                scenario=self.scenario,
                node=name,
                sent=sent,
                received=self._received.arrivals(topic),
                report=node_reports[name],
                usage=self.usage[name],
                baseline_ms=baseline_ms,
            )
            for name, topic in self._topics.items()
        ]

    def _log(self, name: str) -> SweepLogReader:
        return SweepLogReader(self.folder / f"{name}.jsonl")

    def _program(self, module: str, arguments: Sequence[str], name: str) -> Program:
        return Program(module, arguments, self._env, self.logs / f"{name}.log")

    def _recorder(self, name: str, topics: Iterable[str], log: SweepLogReader, *more: str) -> Program:
        return self._program("harness.recorder", ["--topics", *topics, "--log", str(log.path), *more], name)

    def _node_arguments(self, name: str) -> list[str]:
        arguments = node_arguments(self.options, POINTS, [], self.scenario.sim_time)
        return [*arguments, *RELIABLE, "-r", f"__node:={name}"]

    def _add_subscriber(self, stack: ExitStack) -> None:
        """Start the scenario's additional subscriber to the labels of the first node."""
        if not self.scenario.subscriber:
            return
        log, topic = self._log("subscriber"), next(iter(self._topics.values()))
        pause = ["--pause", str(_SLOW_SUBSCRIBER_S)] if self.scenario.subscriber == "slow" else []
        program = stack.enter_context(self._recorder("subscriber", [topic], log, *pause))
        wait_for(lambda: log.has_event("ready"), [program], _READY_TIMEOUT_S, "the additional subscriber")
        if self.scenario.subscriber == "dead":
            program.suspend()

    def _publish(self, stack: ExitStack, running: Sequence[Program]) -> None:
        """Publish the sweeps, and wait for the remaining labels and the last diagnostics."""
        player = stack.enter_context(self._program("harness.schedule_player", self._player_arguments(), "player"))

        def has_ended() -> bool:
            if self._sent.arrivals(_SCHEDULE_TOPIC):
                self._sample()
            return player.returncode is not None

        timeout_s = 60 + 3 * self.scenario.sweeps[-1].at_s
        wait_for(has_ended, [*running, player], timeout_s, "the end of the sweeps")
        player.check()
        topics = self._topics.values()
        expected = len(self._sent.arrivals(_SCHEDULE_TOPIC)) * len(topics)
        wait_for_count(lambda: sum(len(self._received.arrivals(topic)) for topic in topics), expected, _QUIET_S)
        time.sleep(_DIAGNOSTICS_S)

    def _player_arguments(self) -> list[str]:
        schedule = self.folder / "schedule.jsonl"
        lines = (json.dumps(asdict(sweep)) + "\n" for sweep in self.scenario.sweeps)
        schedule.write_text("".join(lines), encoding="utf-8")
        segments = [f"{segment.at_s}:{segment.clock_s}:{segment.rate}" for segment in self.scenario.clock]
        return [
            str(self.folder / "sweeps.mcap"), str(schedule), "--subscribers", str(len(self._nodes)),
            "--log", str(self._sent.path), *(["--clock", *segments] if segments else []),
        ]  # fmt: skip

    def _sample(self) -> None:
        if time.monotonic() - self.sampled_s < _SAMPLE_PERIOD_S:
            return
        self.sampled_s = time.monotonic()
        for name, node in self._nodes.items():
            usage = process_usage(node.pid)
            if usage is not None:
                self.usage.setdefault(name, []).append(usage)
