"""Input of the load and endurance tests, and the counters and service times that the node reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.harness.node_process import stages_ms
from xmodelkd_ros.harness.processes import ProcessError
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.synthetic_sweep import sweep_message, synthetic_sweep
from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.messages.topics import DIAGNOSTICS, POINTS
from xmodelkd_ros.resources import find_model

RELIABLE = ("-p", "points_reliability:=reliable")
"""ROS arguments. With ``auto`` the node resubscribes once it discovers the reliable player, during the first sweeps."""
_PERIOD_NS = 100_000_000


def require_role(options: RunOptions) -> None:
    """Raise a ConfigError if the model's role does not fit the mode, before a node is started."""
    role = ModelSpec.read(find_model(options.model)).role
    if role != options.mode:
        raise ConfigError(
            f"--model {options.model} names a {role}; give a {options.mode}, such as --model {options.mode}"
        )


def write_sweeps(path: Path, model: str, sizes: Sequence[int]) -> None:
    """Write a bag of synthetic sweeps of the given numbers of points, at 10 Hz with the beam table of a model."""
    spec = ModelSpec.read(find_model(model))
    with BagWriter(path) as bag:
        bag.add_topic(POINTS, POINT_CLOUD_TYPE)
        for number, size in enumerate(sizes):
            message = sweep_message(synthetic_sweep(spec.projection, size))
            message.header.stamp = stamp_from_ns(number * _PERIOD_NS, type(message.header.stamp))
            bag.write(POINTS, number * _PERIOD_NS, message)


@dataclass(frozen=True)
class NodeReport:
    """Counters and service times that a node reports.

    Attributes:
        received: sweeps received.
        published: labelled clouds published, by mode.
        unlabelled: sweeps without labels, by reason.
        service_ms: processing time of each labelled sweep, where ``~/status`` was recorded.
    """

    received: int
    published: Mapping[str, int]
    unlabelled: Mapping[str, int]
    service_ms: Sequence[float] = ()

    @classmethod
    def from_values(cls, diagnostics: Mapping[str, str], statuses: Iterable[Mapping[str, str]]) -> NodeReport:
        """Parse the values of the last diagnostics and of the status of each sweep."""
        prefix = "published."
        modes = {name.removeprefix(prefix): int(n) for name, n in diagnostics.items() if name.startswith(prefix)}
        unlabelled = {name: int(n) for name, n in diagnostics.items() if name.startswith(("dropped.", "unlabelled."))}
        labelled = filter(None, map(stages_ms, statuses))
        return cls(int(diagnostics["received"]), modes, unlabelled, [sum(stages.values()) for stages in labelled])


def read_reports(recorded: Path, names: Sequence[str]) -> dict[str, NodeReport]:
    """Reports of nodes, by node name.

    Args:
        recorded: bag with ``/diagnostics`` and optionally the status topics of the nodes.
        names: node names.

    Raises:
        ProcessError: a node published no diagnostics.
    """
    last: dict[str, Mapping[str, str]] = {}
    statuses: dict[str, list[Mapping[str, str]]] = {name: [] for name in names}
    with BagReader(recorded) as reader:
        for topic, _, message in reader.messages():
            for status in message.status:
                node, values = status.name.split(":")[0], {pair.key: pair.value for pair in status.values}
                if topic == DIAGNOSTICS:
                    last[node] = values
                else:
                    statuses[node].append(values)
    silent = [name for name in names if name not in last]
    if silent:
        raise ProcessError(f"{', '.join(silent)} published no diagnostics; see its log")
    return {name: NodeReport.from_values(last[name], statuses[name]) for name in names}
