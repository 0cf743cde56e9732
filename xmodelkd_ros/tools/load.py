"""``xmodelkd load``: more sweeps than the node can label, other ones, other clocks, bad company; over real DDS.

What has to hold: labels come in the order of the sweeps, none twice, and in bounded time; what gets no labels is
counted by the node, with the reason; neither time nor memory grows while it lasts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.load_scenarios import Scenario, scenarios
from xmodelkd_ros.harness.node_process import node_arguments
from xmodelkd_ros.harness.node_under_load import RELIABLE, read_reports, require_role, write_sweeps
from xmodelkd_ros.harness.process_usage import ProcessUsage, process_usage
from xmodelkd_ros.harness.processes import Program, dds_environment, wait_for, wait_for_count
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import SweepLogReader
from xmodelkd_ros.messages.topics import DIAGNOSTICS, POINTS, SEGMENTER, STATUS, output_topic
from xmodelkd_ros.tools.load_outcome import Outcome, outcome
from xmodelkd_ros.tools.load_report import HEAD, row, write_report

_POINTS = "points"
_ALONE = "rate_10"
"""The scenario that those with company are compared with."""
_READY_S = 60.0
_LATE_S = 2.0
"""A sweep is labelled in less, or never: some of these scenarios drop some."""
_REPORT_S = 1.5
"""Diagnostics come once a second: the last ones know all."""
_SAMPLE_S = 0.25
_SLOW_S = 0.5


def measure_load(options: RunOptions, points: int, seconds: float, names: Sequence[str] = ()) -> list[Outcome]:
    """Put the node under each kind of load.

    Args:
        options: the model, and the folder of ``load.md``, ``load.png`` and ``metrics.json``.
        points: of an everyday sweep.
        seconds: how long most scenarios last.
        names: of the scenarios, to which that is added which some are compared with; none for all.

    Raises:
        XModelKDError: the model cannot be used, or a process failed.
    """
    every = scenarios(points, seconds)
    unknown = sorted(set(names) - {scenario.name for scenario in every})
    if unknown:
        raise ConfigError(f"no scenario {', '.join(unknown)}; there are {', '.join(s.name for s in every)}")
    require_role(options)
    out = options.out
    make_folder(out)
    chosen = [scenario for scenario in every if not names or scenario.name in names]
    if any(scenario.subscriber for scenario in chosen) and chosen[0].name != _ALONE:
        chosen = [scenario for scenario in every if scenario.name == _ALONE] + chosen
    outcomes: list[Outcome] = []
    print(HEAD, flush=True)
    for scenario in chosen:
        with TemporaryDirectory(prefix=".load.", dir=out) as folder:
            alone = [o.p50_ms for o in outcomes if o.scenario == _ALONE]
            logs = out / "logs" / scenario.name
            found = _Run(scenario, options, Path(folder), logs, alone[0] if alone else None).outcomes()
        print("\n".join(map(row, found)), flush=True)
        outcomes += found
    write_report(out, outcomes, every, options.command)
    return outcomes


@dataclass(eq=False)
class _Run:
    """A scenario, played once."""

    scenario: Scenario
    options: RunOptions
    folder: Path
    logs: Path
    alone_ms: float | None
    samples: dict[str, list[ProcessUsage]] = field(default_factory=dict)
    sampled_s: float = 0.0

    def outcomes(self) -> list[Outcome]:
        """What came of it, of each node."""
        scenario = self.scenario
        write_sweeps(self.folder / "sweeps.mcap", self.options.model, sorted({a.points for a in scenario.arrivals}))
        names = [SEGMENTER, *(f"{SEGMENTER}_{k + 2}" for k in range(scenario.nodes - 1))]
        env, topics = dds_environment(), [f"/{name}/labels" for name in names]
        sent, received, said = (SweepLogReader(self.folder / f"{name}.jsonl") for name in ("sent", "received", "said"))
        nodes = {
            name: Program("node.segment_node", self._node_arguments(name), env, self.logs / f"{name}.log")
            for name in names
        }
        recorded = self.folder / "recorded.mcap"
        labels = Program(
            "harness.recorder", ["--topics", *topics, "--log", str(received.path)], env, self.logs / "labels.log"
        )
        said_on = [DIAGNOSTICS, *(output_topic(STATUS, name) for name in names)]
        report_arguments = ["--topics", *said_on, "--out", str(recorded), "--log", str(said.path)]
        reports = Program("harness.recorder", report_arguments, env, self.logs / "reports.log")
        with ExitStack() as stack:
            running = [stack.enter_context(program) for program in (*nodes.values(), labels, reports)]
            wait_for(lambda: received.has_event("ready") and said.has_event("ready"), running, _READY_S, "the start")
            self._add_subscriber(stack, env, topics[0])
            self._play(stack, env, running, nodes, sent, received, topics)
        for program in running:
            program.check()
        went, reported = sent.arrivals(_POINTS), read_reports(recorded, names)
        return [
            outcome(scenario, name, went, received.arrivals(topic), reported[name], self.samples[name], self.alone_ms)
            for name, topic in zip(names, topics, strict=True)
        ]

    def _node_arguments(self, name: str) -> list[str]:
        arguments = node_arguments(self.options, POINTS, [], self.scenario.sim_time)
        return [*arguments, *RELIABLE, "-r", f"__node:={name}"]

    def _add_subscriber(self, stack: ExitStack, env: Mapping[str, str], topic: str) -> None:
        if not self.scenario.subscriber:
            return
        log = SweepLogReader(self.folder / "subscriber.jsonl")
        arguments = ["--topics", topic, "--log", str(log.path)]
        arguments += ["--pause", str(_SLOW_S)] if self.scenario.subscriber == "slow" else []
        program = stack.enter_context(Program("harness.recorder", arguments, env, self.logs / "subscriber.log"))
        wait_for(lambda: log.has_event("ready"), [program], _READY_S, "the start of a subscriber")
        if self.scenario.subscriber == "dead":
            program.suspend()

    def _play(
        self,
        stack: ExitStack,
        env: Mapping[str, str],
        running: Sequence[Program],
        nodes: Mapping[str, Program],
        sent: SweepLogReader,
        received: SweepLogReader,
        topics: Sequence[str],
    ) -> None:
        player = Program(
            "harness.schedule_player", self._player_arguments(sent.path, len(nodes)), env, self.logs / "player.log"
        )
        stack.enter_context(player)

        def ended() -> bool:
            if sent.arrivals(_POINTS):
                self._sample(nodes)
            return player.returncode is not None

        wait_for(ended, [*running, player], 60 + 3 * self.scenario.arrivals[-1].at_s, "the end of the sweeps")
        player.check()
        wanted = len(sent.arrivals(_POINTS)) * len(topics)
        wait_for_count(lambda: sum(len(received.arrivals(topic)) for topic in topics), wanted, _LATE_S)
        time.sleep(_REPORT_S)

    def _player_arguments(self, log: Path, subscribers: int) -> list[str]:
        timetable = self.folder / "timetable.jsonl"
        lines = (json.dumps(asdict(arrival)) + "\n" for arrival in self.scenario.arrivals)
        timetable.write_text("".join(lines), encoding="utf-8")
        legs = [f"{leg.at_s}:{leg.clock_s}:{leg.rate}" for leg in self.scenario.clock]
        return [
            str(self.folder / "sweeps.mcap"), str(timetable), "--subscribers", str(subscribers), "--log", str(log),
            *(["--clock", *legs] if legs else []),
        ]  # fmt: skip

    def _sample(self, nodes: Mapping[str, Program]) -> None:
        if time.monotonic() - self.sampled_s < _SAMPLE_S:
            return
        self.sampled_s = time.monotonic()
        for name, node in nodes.items():
            use = process_usage(node.pid)
            if use is not None:
                self.samples.setdefault(name, []).append(use)
