"""The node ``segmenter``: one point cloud in, one label per point out.

A lifecycle node that configures and activates itself unless ``autostart`` is false. The callback
of the input hands each sweep to a worker thread, which decodes, segments and publishes it; the
executor stays free for the next sweep, parameters and diagnostics.

Run it with ``python -m xmodelkd_ros.node.segment_node --ros-args -p model:=DIR -r points:=TOPIC``. With
``--build-only`` it loads its models, which builds the engines of TensorRT that are not there yet, and ends.
It ends with 0 on SIGINT and SIGTERM, after the sweeps at hand are out, and with 1 if it starts
itself and cannot: one line on stderr says why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from rclpy.timer import Timer
from rclpy.utilities import remove_ros_args

from xmodelkd_ros.core.errors import ConfigError, XModelKDError, first_line
from xmodelkd_ros.messages.topics import SEGMENTER
from xmodelkd_ros.node import parameters
from xmodelkd_ros.node.approximate_sync import message_filters
from xmodelkd_ros.node.cloud_subscription import CloudSubscription
from xmodelkd_ros.node.extrinsics import Transforms
from xmodelkd_ros.node.loaded_models import LoadedModels
from xmodelkd_ros.node.outputs import Outputs
from xmodelkd_ros.node.parameters import OutputOptions
from xmodelkd_ros.node.process import ros, run_program, spin
from xmodelkd_ros.node.sweep_processor import SweepProcessor

_DIAGNOSTICS_PERIOD_S = 1.0


class SegmentNode(LifecycleNode):  # type: ignore[misc]
    """The life cycle of the segmenter: configured it has a model and publishers, active it labels sweeps."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(SEGMENTER, **kwargs)
        try:
            parameters.declare(self)
        except Exception:
            self.destroy_node()  # else it stays in the graph, and answers to the name of the next one
            raise
        self.add_on_set_parameters_callback(self._on_parameters)
        self._transforms = Transforms(self)
        self._segmenter: LoadedModels | None = None
        self._outputs: Outputs | None = None
        self._labeller: SweepProcessor | None = None
        self._input: CloudSubscription | None = None
        self._timer: Timer | None = None

    def start(self) -> bool:
        """Configure and activate, unless ``autostart`` is false; whether that went well."""
        if not self.get_parameter("autostart").value:
            self.get_logger().info("waiting to be configured: autostart is false")
            return True
        done = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == done and self.trigger_activate() == done)

    def close(self) -> None:
        """Send the sweeps at hand out, then take everything down."""
        self._release()
        self.destroy_node()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, load the model, create the publishers."""
        return self._transition(self._configure, self._clean_up)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start taking sweeps."""
        return self._transition(self._activate, self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop taking sweeps, once those at hand are out."""
        return self._transition(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of model and publishers."""
        return self._transition(self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        return self._transition(self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything, so that the node can be configured again."""
        return self._transition(self._release)

    def _transition(
        self, action: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        """Run a transition. What it raises, which rclpy would swallow, is logged in one line, and undone."""
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
        for name in parameters.unknown(self):
            self.get_logger().warning(f"parameter {name} is not known and has no effect; is it misspelt?")
        if values.policy == "approximate":
            message_filters()
        self._segmenter = LoadedModels(self, values, self._transforms)
        options = OutputOptions.of(values, self._segmenter.labels)
        self._outputs = Outputs(self)
        self._outputs.announce(options)
        running = ", ".join(f"{key} {value}" for key, value in self._segmenter.description.items())
        self.get_logger().info(f"configured: {running}")

    def _activate(self) -> None:
        assert self._segmenter is not None and self._outputs is not None
        values = parameters.read(self)
        self._labeller = SweepProcessor(self, self._segmenter, self._outputs, values)
        # Steady time: a stopped /clock must not silence the report that nothing comes in.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(_DIAGNOSTICS_PERIOD_S, self._labeller.report, clock=steady)
        self._input = CloudSubscription(
            self, values.points_reliability, self._labeller.on_points, self._labeller.on_lost
        )
        self.get_logger().info(f"active: labelling {self._input.topic}")

    def _deactivate(self) -> None:
        if self._input is not None:
            self._input.destroy()
        self.destroy_timer(self._timer)
        self._input = self._timer = None
        if self._labeller is not None:
            self._labeller.stop()
            self._labeller = None

    def _clean_up(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        self._transforms.close()
        self._outputs = self._segmenter = None

    def _release(self) -> None:
        self._deactivate()
        self._clean_up()

    def _on_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        """Check changes together with all other values; what the output looks like changes with the next sweep."""
        if not any(parameters.changeable(p.name) for p in changes):
            return SetParametersResult(successful=True)
        try:
            values = parameters.read(self, changes)
            if self._segmenter is not None and self._outputs is not None:
                options = OutputOptions.of(values, self._segmenter.labels)
                if self._labeller is not None:
                    self._labeller.update(values)
                self._outputs.announce(options)
        except Exception as error:  # an answer is owed whatever happens
            known = isinstance(error, XModelKDError)
            return SetParametersResult(successful=False, reason=str(error) if known else repr(error))
        return SetParametersResult(successful=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal comes; the exit code."""
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
