"""Lifecycle node ``segmenter``: labels every point of every incoming point cloud.

It configures and activates itself unless ``autostart`` is false. A worker thread decodes, segments and publishes the
sweeps, so that the executor stays free for the next sweep, parameters and diagnostics.

    python -m xmodelkd_ros.node.segment_node --ros-args -p model:=DIR -r points:=TOPIC

With ``--build-only`` it loads its models, which builds missing TensorRT engines, and exits. SIGINT and SIGTERM end it
with exit code 0, after pending sweeps are published. If it cannot start, it prints one line on stderr and exits with 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from rclpy.timer import Timer
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.core.errors import ConfigError, XModelKDError, first_line, listed
from xmodelkd_ros.messages.topics import SEGMENTER
from xmodelkd_ros.node import parameters, unknown_parameters
from xmodelkd_ros.node.adaptive_subscription import AdaptiveSubscription
from xmodelkd_ros.node.approximate_sync import message_filters
from xmodelkd_ros.node.extrinsics import Transforms
from xmodelkd_ros.node.input_watch import silence
from xmodelkd_ros.node.loaded_models import LoadedModels
from xmodelkd_ros.node.outputs import OutputOptions, Outputs
from xmodelkd_ros.node.process import ros, run_program, spin
from xmodelkd_ros.node.sweep_processor import SweepProcessor

_DIAGNOSTICS_PERIOD_S = 1.0
_DROP_CLASSES_GOES = (
    "filter.drop_classes goes with the next release; use filters.NAME.drop instead, which is published on "
    "~/filtered/NAME"
)


class SegmentNode(LifecycleNode):  # type: ignore[misc]
    """Life cycle of the segmenter: models and publishers exist while configured, subscriptions while active."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(SEGMENTER, **kwargs)
        try:
            parameters.declare(self)
        except Exception:
            self.destroy_node()  # otherwise it stays in the graph under the name of the next one
            raise
        self.add_on_set_parameters_callback(self._on_parameters)
        self._transforms = Transforms(self)
        self._models: LoadedModels | None = None
        self._outputs: Outputs | None = None
        self._options: OutputOptions | None = None
        self._processor: SweepProcessor | None = None
        self._input: AdaptiveSubscription | None = None
        self._timer: Timer | None = None

    def start(self) -> bool:
        """Configure and activate, unless ``autostart`` is false; returns whether it succeeded."""
        if not self.get_parameter("autostart").value:
            self.get_logger().info("waiting to be configured: autostart is false")
            return True
        done = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == done and self.trigger_activate() == done)

    def close(self) -> None:
        """Publish pending sweeps, then release everything and destroy the node."""
        self._release()
        self.destroy_node()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, load the models and create the publishers."""
        return self._transition(self._configure, self._clean_up)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the sweeps."""
        return self._transition(self._activate, self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, after pending sweeps are published."""
        return self._transition(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release models and publishers."""
        return self._transition(self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        return self._transition(self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again."""
        return self._transition(self._release)

    def _transition(
        self, action: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        """Run a transition. Exceptions, which rclpy would swallow, are logged in one line and the transition undone."""
        try:
            action()
        except Exception as error:
            expected = isinstance(error, XModelKDError)
            self.get_logger().error(str(error) if expected else f"{type(error).__name__}: {first_line(error)}")
            if undo is not None:
                undo()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        values = parameters.read(self)
        for line in unknown_parameters.warnings(self):
            self.get_logger().warning(line)
        if values.policy == "approximate":
            message_filters()
        self._models = LoadedModels(self, values, self._transforms)
        self._options = OutputOptions.of(values, self._models.labels)
        self._warn_not_dropped(self._options)
        if values.drop_classes:
            self.get_logger().warning(_DROP_CLASSES_GOES)
        self._outputs = Outputs(self, self._options.filters)
        self._outputs.announce(self._options.labels, self._models.prediction(values.mode, self._options.label_field))
        description = ", ".join(f"{key} {value}" for key, value in self._models.description.items())
        self.get_logger().info(f"configured: {description}")

    def _activate(self) -> None:
        assert self._models is not None and self._outputs is not None and self._options is not None
        values = parameters.read(self)
        self._processor = SweepProcessor(self, self._models, self._outputs, values, self._options)
        # Steady time, so that a stopped /clock does not silence the report that no sweep arrives.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(_DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self._input = AdaptiveSubscription(
            self, PointCloud2, "points", self._processor.on_points, self._processor.on_lost, values.points_reliability
        )
        self.get_logger().info(f"active: labelling {self._input.topic}")
        later = [camera.image_topic for camera in values.cameras] if values.mode == "student" else []
        for line in unknown_parameters.qos_warnings(self, later):
            self.get_logger().warning(line)

    def _publish_diagnostics(self) -> None:
        if self._processor is not None and self._input is not None:
            self._processor.publish_diagnostics(silence(self, self._input, "set points_topic (or remap points)"))

    def _deactivate(self) -> None:
        if self._input is not None:
            self._input.destroy()
        self.destroy_timer(self._timer)
        self._input = self._timer = None
        if self._processor is not None:
            self._processor.stop()
            self._processor = None

    def _clean_up(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        self._transforms.close()
        self._outputs = self._models = self._options = None

    def _release(self) -> None:
        self._deactivate()
        self._clean_up()

    def _warn_not_dropped(self, options: OutputOptions) -> None:
        if options.not_dropped:
            self.get_logger().warning(
                f"filter.drop_classes: label set '{options.labels.name}' has no {listed(options.not_dropped)}, so no "
                f"points are dropped for these names; it has {listed(options.labels.names)}"
            )

    def get_parameter(self, name: str) -> Parameter[Any]:
        """Value of a parameter under any of its names; see :meth:`rclpy.node.Node.get_parameter`."""
        return super().get_parameter(parameters.declared_name(name))

    def describe_parameter(self, name: str) -> ParameterDescriptor:
        """Descriptor of a parameter under any of its names; see :meth:`rclpy.node.Node.describe_parameter`."""
        return super().describe_parameter(parameters.declared_name(name))

    def set_parameters(self, parameter_list: list[Parameter[Any]]) -> list[SetParametersResult]:
        """Set parameters one by one; see :meth:`rclpy.node.Node.set_parameters`."""
        return list(super().set_parameters(parameters.converted(parameter_list)))

    def set_parameters_atomically(self, parameter_list: list[Parameter[Any]]) -> SetParametersResult:
        """Set parameters together (the services call this); see :meth:`rclpy.node.Node.set_parameters_atomically`."""
        changes = parameters.converted(parameter_list)
        unknown = [change.name for change in changes if not self.has_parameter(change.name)]
        if unknown:  # rclpy's own message does not always name the parameter
            proposals = " ".join(filter(None, (unknown_parameters.proposal(self, name) for name in unknown)))
            reason = f"{SEGMENTER} has no parameter {listed(unknown)}"
            return SetParametersResult(successful=False, reason=f"{reason}. {proposals}" if proposals else reason)
        problem = next(filter(None, map(parameters.type_problem, changes)), "")
        if problem:  # rclpy's own message names no parameter, and types as numbers
            return SetParametersResult(successful=False, reason=problem)
        return super().set_parameters_atomically(changes)

    def _on_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        """Validate changes together with all other values, and apply them from the next sweep on."""
        if not any(parameters.is_changeable(change.name) for change in changes):
            return SetParametersResult(successful=True)
        try:
            values = parameters.read(self, changes)
            if self._models is not None and self._outputs is not None:
                given = any(change.name == "filter.drop_classes" for change in changes)
                options = OutputOptions.of(values, self._models.labels, strict=given)
                if self._processor is not None:
                    self._processor.update(values, options)
                self._outputs.announce(options.labels, self._models.prediction(values.mode, options.label_field))
                if self._options is None or options.not_dropped != self._options.not_dropped:
                    self._warn_not_dropped(options)
                self._options = options
        except Exception as error:  # the client needs an answer in any case
            expected = isinstance(error, XModelKDError)
            return SetParametersResult(successful=False, reason=str(error) if expected else repr(error))
        return SetParametersResult(successful=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a stop signal; returns the exit code."""
    return run_program(lambda stop: _run(sys.argv if args is None else args, stop))


def _run(args: Sequence[str], stop: Future) -> int:
    with ros(args):
        try:
            node = SegmentNode()
        except ParameterException as error:
            raise ConfigError(first_line(error)) from error
        try:
            if "--build-only" in remove_ros_args(list(args)):
                return 0 if node.trigger_configure() == TransitionCallbackReturn.SUCCESS else 1
            if not node.start():
                return 1
            spin(node, stop)
        finally:
            node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
