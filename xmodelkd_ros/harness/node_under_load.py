"""What load and endurance give a node to do, and what it says of it."""

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
"""ROS arguments. Else the node subscribes again when it has seen that the player is reliable, amid the first sweeps."""
_PERIOD_NS = 100_000_000


def require_role(options: RunOptions) -> None:
    """Raise a ConfigError for a model that cannot be run in the mode that is asked for, before a node is started."""
    role = ModelSpec.read(find_model(options.model)).role
    if role != options.mode:
        raise ConfigError(f"model {options.model} is a {role}; give a {options.mode}")


def write_sweeps(path: Path, model: str, sizes: Sequence[int]) -> None:
    """Write a bag of synthetic sweeps, ten a second, for the beams of a model.

    Args:
        path: the ``.mcap`` file.
        model: its name or path.
        sizes: number of points of each sweep.
    """
    spec = ModelSpec.read(find_model(model))
    with BagWriter(path) as bag:
        bag.add_topic(POINTS, POINT_CLOUD_TYPE)
        for number, size in enumerate(sizes):
            message = sweep_message(synthetic_sweep(spec.projection, size))
            message.header.stamp = stamp_from_ns(number * _PERIOD_NS, type(message.header.stamp))
            bag.write(POINTS, number * _PERIOD_NS, message)


@dataclass(frozen=True)
class NodeReport:
    """What a node says of the sweeps that it got.

    Attributes:
        received: sweeps that came in.
        published: labels that went out, by mode.
        unlabelled: sweeps that got no labels, by reason.
        service_ms: how long it worked on each sweep, where its ``~/status`` was recorded.
    """

    received: int
    published: Mapping[str, int]
    unlabelled: Mapping[str, int]
    service_ms: Sequence[float] = ()

    @classmethod
    def of(cls, diagnostics: Mapping[str, str], statuses: Iterable[Mapping[str, str]]) -> NodeReport:
        """From the values of its last diagnostics, and of the status of each sweep."""
        mode, starts = "published.", ("dropped.", "unlabelled.")
        modes = {name.removeprefix(mode): int(n) for name, n in diagnostics.items() if name.startswith(mode)}
        lost = {name: int(count) for name, count in diagnostics.items() if name.startswith(starts)}
        labelled = filter(None, map(stages_ms, statuses))
        return cls(int(diagnostics["received"]), modes, lost, [sum(stages.values()) for stages in labelled])


def read_reports(recorded: Path, names: Sequence[str]) -> dict[str, NodeReport]:
    """What each node says, by its name.

    Args:
        recorded: bag with the diagnostics, and perhaps the nodes' status.
        names: of the nodes.

    Raises:
        ProcessError: one of them said nothing.
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
        raise ProcessError(f"{', '.join(silent)} published no diagnostics; look at its log")
    return {name: NodeReport.of(last[name], statuses[name]) for name in names}
