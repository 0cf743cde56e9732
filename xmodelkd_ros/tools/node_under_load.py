"""A node that is put to work by the tools: its command line, sweeps for it, and what it says at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodelkd_ros.bag import POINT_CLOUD_TYPE, BagReader, BagWriter
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.messages import stamp_from_ns
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.tools.processes import ProcessError
from xmodelkd_ros.tools.synthetic_sweep import sweep_message, synthetic_sweep

DIAGNOSTICS = "/diagnostics"
_POINTS = "/points"
_PERIOD_NS = 100_000_000
_NO_STAGE = ("latency",)
"""What the node times and is no work of its own: sweeps wait in it."""


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


def write_sweeps(path: Path, model: str, sizes: Sequence[int]) -> None:
    """Write a bag of synthetic sweeps, ten a second, for the beams of a model.

    Args:
        path: the ``.mcap`` file.
        model: its name or path.
        sizes: number of points of each sweep.
    """
    spec = ModelSpec.read(find_model(model))
    with BagWriter(path) as bag:
        bag.add_topic(_POINTS, POINT_CLOUD_TYPE)
        for number, size in enumerate(sizes):
            message = sweep_message(synthetic_sweep(spec.projection, size))
            message.header.stamp = stamp_from_ns(number * _PERIOD_NS, type(message.header.stamp))
            bag.write(_POINTS, number * _PERIOD_NS, message)


@dataclass(frozen=True)
class NodeReport:
    """The last diagnostics of a node.

    Attributes:
        received: sweeps that came in.
        published: labels that went out, by mode.
        unlabelled: sweeps that got no labels, by reason.
        service_ms: what the slowest hundredth of sweeps takes, all stages together; None if none was labelled.
    """

    received: int
    published: Mapping[str, int]
    unlabelled: Mapping[str, int]
    service_ms: float | None

    @classmethod
    def of(cls, values: Mapping[str, str]) -> NodeReport:
        """From the values of a diagnostic status."""
        modes = {name.removeprefix("published."): int(v) for name, v in values.items() if name.startswith("published.")}
        lost = {name: int(v) for name, v in values.items() if name.startswith(("dropped.", "unlabelled."))}
        slowest = {name.removesuffix("_ms.p99"): float(v) for name, v in values.items() if name.endswith("_ms.p99")}
        stages = [milliseconds for name, milliseconds in slowest.items() if name not in _NO_STAGE]
        return cls(int(values["received"]), modes, lost, sum(stages) if stages else None)


def last_reports(recorded: Path) -> dict[str, NodeReport]:
    """What each node said last, by its name.

    Args:
        recorded: bag with the diagnostics.

    Raises:
        ProcessError: none said anything.
    """
    said: dict[str, Mapping[str, str]] = {}
    with BagReader(recorded) as reader:
        for _, _, message in reader.messages([DIAGNOSTICS]):
            for status in message.status:
                said[status.name.split(":")[0]] = {pair.key: pair.value for pair in status.values}
    if not said:
        raise ProcessError("no node published diagnostics; look at the logs of the nodes")
    return {name: NodeReport.of(values) for name, values in said.items()}
