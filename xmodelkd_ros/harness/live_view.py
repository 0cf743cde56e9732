"""Live view: shows the labels of a running node in three dimensions (Rerun).

    python -m xmodelkd_ros.harness.live_view [--node /segmenter] [--save FILE.rrd] [--ros-args ...]

Subscribes to the node's labels with best effort and a queue of one sweep, so that a slow viewer never holds the node
up; sweeps that come while one is drawn are left out. Clouds are shown in their own frame. Ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.messages.clouds import AUTOWARE_LABEL_FIELD, LABEL_FIELD, has_field, read_segmentation, to_cloud
from xmodelkd_ros.messages.headers import label_map_from_json, prediction_from_json, stamp_ns
from xmodelkd_ros.messages.topics import LABEL_INFO_JSON, LABELS, SEGMENTER
from xmodelkd_ros.node.process import ros, run_program, spin
from xmodelkd_ros.node.qos import latched, reliable
from xmodelkd_ros.reports.scene_recording import SceneRecording, rerun

_PROGRAM = "live_view"


class LiveView:
    """Shows the labelled clouds of a segmenter from the moment that its label set is known.

    Args:
        node: the subscribing node.
        segmenter: absolute name of the segmenter.
        save: file to write; None: open a viewer.

    Attributes:
        shown: number of sweeps shown.
    """

    def __init__(self, node: Node, segmenter: str, save: Path | None) -> None:
        self.shown = 0
        self._node, self._segmenter, self._save = node, segmenter, save
        self._scene: SceneRecording | None = None
        self._field = LABEL_FIELD
        newest = reliable(1)
        newest.reliability = ReliabilityPolicy.BEST_EFFORT
        node.create_subscription(String, f"{segmenter}/{LABEL_INFO_JSON}", self._on_labels, latched())
        node.create_subscription(PointCloud2, f"{segmenter}/{LABELS}", self._on_cloud, newest)

    def close(self) -> None:
        """Write what is left."""
        if self._scene is not None:
            self._scene.close()

    def _on_labels(self, message: String) -> None:
        """Begin, or begin anew with another label set."""
        self.close()
        prediction = prediction_from_json(message.data)
        self._field = LABEL_FIELD if prediction is None else prediction.field
        self._scene = SceneRecording(label_map_from_json(message.data), self._segmenter, self._save)

    def _on_cloud(self, message: PointCloud2) -> None:
        if self._scene is None:
            return
        segmentation = read_segmentation(message, self._field_of(message))
        self._scene.sweep(stamp_ns(message.header.stamp), to_cloud(message, "fill"), segmentation)
        if not self.shown:
            self._scene.arrange(follow=True)
            self._node.get_logger().info(f"showing {self._segmenter}/{LABELS}")
        self.shown += 1

    def _field_of(self, message: Any) -> str:
        """The field of class ids, which depends on the node's output layout."""
        return next((n for n in (self._field, AUTOWARE_LABEL_FIELD) if has_field(message, n)), self._field)


def live_view(segmenter: str, save: Path | None, arguments: Sequence[str], stop: Future) -> int:
    """Show the labels of a running node until ``stop``; returns the number of sweeps shown.

    Args:
        segmenter: absolute name of the node.
        save: file to write; None: open a viewer.
        arguments: command line with ``--ros-args``.
        stop: completed when the view should end.

    Raises:
        ConfigError: Rerun is not installed.
        XModelKDError: a message cannot be read.
    """
    rerun()
    with ros(arguments):
        node = Node(_PROGRAM)
        view = LiveView(node, segmenter, save)
        node.get_logger().info(f"waiting for labels on {segmenter}/{LABELS}")
        try:
            spin(node, stop, fatal=XModelKDError)
        finally:
            view.close()
            node.destroy_node()
    return view.shown


def main(args: Sequence[str] | None = None) -> int:
    """Show labels until SIGINT or SIGTERM and return the exit code."""
    arguments = sys.argv if args is None else list(args)
    parser = argparse.ArgumentParser(_PROGRAM, description="Show the labels of a running node in three dimensions.")
    parser.add_argument("--node", default=f"/{SEGMENTER}", metavar="NAME", help="the segmenter (%(default)s)")
    parser.add_argument("--save", type=Path, metavar="FILE.rrd", help="write a recording instead of opening a viewer")
    options = parser.parse_args(remove_ros_args(arguments)[1:])

    def program(stop: Future) -> int:
        shown = live_view(options.node, options.save, arguments, stop)
        print(f"{options.save or options.node}: {shown} sweeps")
        return 0

    return run_program(program)


if __name__ == "__main__":
    sys.exit(main())
