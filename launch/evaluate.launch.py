"""Launch ``xmodelkd replay``: play a bag to the segmenter over DDS, score the labels and write a report."""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_entity import LaunchDescriptionEntity
from launch_ros.substitutions import ExecutableInPackage

from xmodelkd_ros.resources import user_path

ARGUMENTS = (
    DeclareLaunchArgument("bag", description="Bag (rosbag2 folder or .mcap) to play."),
    DeclareLaunchArgument("out", description="Folder for metrics.json and report.html."),
    DeclareLaunchArgument("model", default_value="student", description="Name or folder of the model."),
    DeclareLaunchArgument(
        "backend",
        default_value="auto",
        choices=["auto", "onnxruntime", "openvino", "tensorrt"],
        description="Inference engine.",
    ),
    DeclareLaunchArgument(
        "points_topic",
        default_value="",
        description="Topic of the sweeps; required if the bag has several PointCloud2 topics.",
    ),
    DeclareLaunchArgument(
        "label_set", default_value="", description="Label set to score in, such as pandaset9. Default: the model's own."
    ),
    DeclareLaunchArgument("rate", default_value="1.0", description="Playback rate."),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the program."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Build the program for the given arguments."""
    replay = ExecuteProcess(name="replay", cmd=command(context.launch_configurations), output="screen")
    return [replay, RegisterEventHandler(OnProcessExit(target_action=replay, on_exit=fail_with))]


def command(arguments: dict[str, str]) -> list[str | ExecutableInPackage]:
    """Build the command line; empty arguments are omitted."""
    program = ExecutableInPackage(package="xmodelkd_ros", executable="xmodelkd")
    names = ("model", "backend", "points_topic", "label_set", "rate")
    options = [(f"--{name.replace('_', '-')}", arguments[name]) for name in names if arguments[name]]
    bag, out = (str(user_path(arguments[name])) for name in ("bag", "out"))
    return [program, "replay", bag, *(part for option in options for part in option), "--out", out]


def fail_with(event: ProcessExited, context: LaunchContext) -> None:
    """End the launch with exit code 1 if the program failed, so that scripts notice."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(f"xmodelkd replay ended with exit code {event.returncode}")
