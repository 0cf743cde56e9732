"""Both ways to match images to sweeps, on the same arrivals.

    python -m xmodelkd_ros.node.compare_policies BAG CAMERAS.yaml [--points-topic T] [--seed 0]

The messages of a bag arrive as they were recorded, and then with losses, with a camera that stops, late, and twice
over. For each of these a line says what ``sync.policy: collector`` and ``approximate`` (where message_filters is
installed) make of it. ``CAMERAS.yaml`` is the node's parameter file, as ``xmodelkd fit-cameras`` writes it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from xmodelkd_ros.bag import BagReader
from xmodelkd_ros.core.errors import ConfigError, XModelKDError, listed
from xmodelkd_ros.messages import stamp_ns
from xmodelkd_ros.node.approximate import ApproximateCollector
from xmodelkd_ros.node.stamps import StampOrder
from xmodelkd_ros.sync import MatchedSweep, Now, SweepCollector

_SLOP_NS = _DEADLINE_NS = 50_000_000
_POLL_NS = 5_000_000


class Arrival(NamedTuple):
    """A message: nanoseconds of its arrival, its topic, its stamp."""

    at_ns: int
    topic: str
    stamp_ns: int


def recorded(reader: BagReader, points_topic: str, offsets_ns: Mapping[str, int]) -> list[Arrival]:
    """The sweeps and images of a bag as they arrived.

    Args:
        reader: the open bag.
        points_topic: of the sweeps.
        offsets_ns: of each image topic, what is added to its stamps.

    Raises:
        ConfigError: the bag has no images on these topics.
    """
    missing = [topic for topic in offsets_ns if topic not in reader.topics]
    if missing:
        raise ConfigError(f"{reader.path} has no topic {', '.join(missing)}; it has {listed(reader.topics)}")
    return [
        Arrival(m.log_time_ns, m.topic, stamp_ns(m.message.header.stamp) + offsets_ns.get(m.topic, 0))
        for m in reader.messages([points_topic, *offsets_ns])
    ]


def offsets_ns(path: Path) -> dict[str, int]:
    """The time offset of each image topic of a parameter file.

    Raises:
        ConfigError: the file cannot be read, or names no cameras.
    """
    try:
        parameters = yaml.safe_load(path.read_text(encoding="utf-8"))["/**"]["ros__parameters"]
        cameras = [f"cameras.{name}." for name in parameters["cameras"]]
        return {parameters[f"{c}image_topic"]: round(parameters[f"{c}time_offset"] * 1e9) for c in cameras}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} names no cameras ({error!r}); make it with 'xmodelkd fit-cameras BAG'") from error


def scenarios(arrivals: Sequence[Arrival], images: Sequence[str], seed: int) -> Iterator[tuple[str, list[Arrival]]]:
    """What may happen to arrivals on their way."""
    rng, begin, end = random.Random(seed), arrivals[0].at_ns, arrivals[-1].at_ns
    yield "as recorded", list(arrivals)
    yield "one image in ten lost", [a for a in arrivals if a.topic not in images or rng.random() >= 0.1]
    yield "a camera stops halfway", [a for a in arrivals if a.topic != images[0] or a.at_ns < (begin + end) // 2]
    late = [a._replace(at_ns=a.at_ns + 60_000_000) if a.topic in images else a for a in arrivals]
    yield "images 60 ms late", sorted(late)
    again = [a._replace(at_ns=a.at_ns + end - begin + 100_000_000) for a in arrivals]
    yield "twice, as a bag that loops", [*arrivals, *again]


def outcome(
    collector: SweepCollector[Any, Any] | ApproximateCollector, arrivals: Sequence[Arrival], points_topic: str
) -> tuple[int, int, int, float]:
    """Sweeps that went on, how many with all cameras, images that they have, and milliseconds of the processor each."""
    collector.slop_ns, collector.deadline_ns = _SLOP_NS, _DEADLINE_NS
    order = StampOrder()
    gone: list[MatchedSweep[Any, Any]] = []
    start_s, now_ns = time.process_time(), arrivals[0].at_ns
    for arrival in arrivals:
        while len(collector) and now_ns + _POLL_NS < arrival.at_ns:
            now_ns += _POLL_NS
            gone += collector.poll(Now(now_ns, now_ns))
        now_ns = arrival.at_ns
        now = Now(now_ns, now_ns)
        if arrival.topic == points_topic:
            gone += collector.add_sweep(arrival.stamp_ns, arrival, now) if order.accept(arrival.stamp_ns) else []
        else:
            gone += collector.add_image(arrival.topic, arrival.stamp_ns, arrival, now)
    while len(collector):
        now_ns += _POLL_NS
        gone += collector.poll(Now(now_ns, now_ns))
    sweeps = sum(arrival.topic == points_topic for arrival in arrivals)
    cost_ms = (time.process_time() - start_s) * 1e3 / sweeps
    cameras = len({arrival.topic for arrival in arrivals}) - 1
    whole = sum(len(matched.images) == cameras for matched in gone)
    return len(gone), whole, sum(len(matched.images) for matched in gone), cost_ms


def table(arrivals: Sequence[Arrival], images: Sequence[str], points_topic: str, seed: int) -> str:
    """The outcomes as a table in Markdown."""
    lines = [
        "| arrivals | policy | sweeps in | labelled | with all cameras | images used | CPU ms a sweep |",
        "|---|---|---|---|---|---|---|",
    ]
    policies: dict[str, Callable[[], SweepCollector[Any, Any] | ApproximateCollector]] = {
        "collector": lambda: SweepCollector(images, 0, 0),
        "approximate": lambda: ApproximateCollector(images, lambda sweep: None),
    }
    for name, happened in scenarios(arrivals, images, seed):
        sweeps = sum(arrival.topic == points_topic for arrival in happened)
        for policy, make in policies.items():
            try:
                *counts, cost_ms = outcome(make(), happened, points_topic)
            except ConfigError as error:
                lines.append(f"| {name} | {policy} | {sweeps} | not run: {error} | | | |")
                continue
            lines.append(f"| {name} | {policy} | {sweeps} | {' | '.join(map(str, counts))} | {cost_ms:.2f} |")
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> int:
    """Compare on a bag; the exit code."""
    parser = argparse.ArgumentParser("compare_policies", description="Compare sync.policy collector and approximate.")
    parser.add_argument("bag", type=Path, help="rosbag2 folder or single file, with images")
    parser.add_argument("cameras", type=Path, metavar="CAMERAS.yaml", help="parameter file from xmodelkd fit-cameras")
    parser.add_argument("--points-topic", default="", metavar="T", help="of the sweeps, where there are several clouds")
    parser.add_argument("--seed", type=int, default=0, help="of what is lost (default: %(default)s)")
    options = parser.parse_args(args)
    try:
        with BagReader(options.bag) as reader:
            points_topic = reader.points_topic(options.points_topic)
            offsets = offsets_ns(options.cameras)
            print(table(recorded(reader, points_topic, offsets), list(offsets), points_topic, options.seed))
    except XModelKDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
