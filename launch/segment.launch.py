"""Launch the segmenter, optionally with RViz and a bag player.

Launch arguments take precedence over the parameter file; arguments that are not given leave its values unchanged.
"""

from __future__ import annotations

import os
import sys

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_entity import LaunchDescriptionEntity
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from xmodelkd_ros.harness.dds_profile import profile_variable, shipped_profile, user_profile

PACKAGE = "xmodelkd_ros"
SHARE = get_package_share_directory(PACKAGE)

RESTART_DELAY_S = 2.0

FROM_FILE = "Default: as in params_file."
ARGUMENTS = (
    DeclareLaunchArgument("model", default_value="", description=f"Name or folder of the model. {FROM_FILE}"),
    DeclareLaunchArgument(
        "teacher_model", default_value="", description=f"Name or folder of the model that uses cameras too. {FROM_FILE}"
    ),
    DeclareLaunchArgument(
        "mode",
        default_value="",
        choices=["", "student", "teacher"],
        description=f"student: LiDAR only. teacher: LiDAR and the cameras in params_file. {FROM_FILE}",
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        choices=["", "auto", "onnxruntime", "openvino", "tensorrt"],
        description=f"Inference engine. {FROM_FILE}",
    ),
    DeclareLaunchArgument("points_topic", default_value="points", description="Topic of the LiDAR's PointCloud2."),
    DeclareLaunchArgument(
        "params_file",
        default_value=os.path.join(SHARE, "config", "segment.param.yaml"),
        description="Parameter file of the node.",
    ),
    DeclareLaunchArgument(
        "sensor",
        default_value="",
        description="Sensor file (from 'xmodelkd fit-sensor') if the LiDAR is not the one the model was trained on. "
        f"{FROM_FILE}",
    ),
    DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=["true", "false"],
        description="Show the clouds in RViz. Set its Fixed Frame to the frame of your clouds.",
    ),
    DeclareLaunchArgument("bag", default_value="", description="Bag (rosbag2 folder or .mcap) to play, with /clock."),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=["", "true", "false"],
        description="Use the time of /clock. Default: true if a bag is played.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=["", "true", "false"],
        description=f"false: the node waits for external lifecycle transitions. {FROM_FILE}",
    ),
    DeclareLaunchArgument(
        "build_only",
        default_value="false",
        choices=["true", "false"],
        description="Load the models, which builds missing TensorRT engines, and exit.",
    ),
    DeclareLaunchArgument(
        "dds_profile",
        default_value=user_profile(os.environ) or shipped_profile(),
        description="Fast DDS profile for large clouds, or none. Default: that in the environment, or the shipped one.",
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the processes."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Build the processes for the given arguments."""
    arguments = dict(context.launch_configurations)
    if arguments["build_only"] == "true":
        return [node(arguments)]
    actions = segmenter(arguments)
    if arguments["rviz"] == "true":
        actions.append(rviz(arguments))
    if arguments["bag"]:
        actions.append(player(arguments))
    return actions


def segmenter(arguments: dict[str, str]) -> list[LaunchDescriptionEntity]:
    """Build the node and a handler that restarts it after a crash."""
    process = node(arguments)
    on_crash = OnProcessExit(target_action=process, on_exit=lambda event, context: restart(event, context, arguments))
    return [process, RegisterEventHandler(on_crash)]


def node(arguments: dict[str, str]) -> Node:
    """Build the node."""
    return Node(
        package=PACKAGE,
        executable="segment_node",
        name="segmenter",
        namespace=arguments["namespace"],
        parameters=[arguments["params_file"], overrides(arguments)],
        remappings=[("points", arguments["points_topic"])],
        additional_env=environment(arguments),
        arguments=["--build-only"] if arguments["build_only"] == "true" else [],
        output="screen",
    )


def restart(event: ProcessExited, context: LaunchContext, arguments: dict[str, str]) -> list[LaunchDescriptionEntity]:
    """Restart the node if a signal ended it, but not after an error exit, whose cause would recur."""
    if context.is_shutdown or event.returncode >= 0:
        return []
    log = LogInfo(
        msg=f"{event.process_name} was ended by signal {-event.returncode}; restarting in {RESTART_DELAY_S} s"
    )
    return [log, TimerAction(period=RESTART_DELAY_S, actions=segmenter(arguments))]


def overrides(arguments: dict[str, str]) -> dict[str, ParameterValue | bool]:
    """Parameters given as launch arguments."""
    texts = [name for name in ("model", "teacher_model", "mode", "backend", "sensor") if arguments[name]]
    parameters = {name: ParameterValue(arguments[name], value_type=str) for name in texts}
    if arguments["autostart"]:
        parameters["autostart"] = arguments["autostart"] == "true"
    if arguments["use_sim_time"] or arguments["bag"]:
        parameters["use_sim_time"] = sim_time(arguments)
    return parameters


def sim_time(arguments: dict[str, str]) -> bool:
    """Whether the processes use the time of /clock."""
    return arguments["use_sim_time"] == "true" or (not arguments["use_sim_time"] and bool(arguments["bag"]))


def environment(arguments: dict[str, str]) -> dict[str, str]:
    """Environment variable that selects the Fast DDS profile."""
    profile = arguments["dds_profile"]
    return {} if profile == "none" else {profile_variable(os.environ): profile}


def rviz(arguments: dict[str, str]) -> Node:
    """Build RViz with the shipped layout and its topics remapped to those of this launch."""
    topics = ("segmenter/colored", "segmenter/labels")
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=arguments["namespace"],
        arguments=["-d", os.path.join(SHARE, "config", "segment.rviz")],
        parameters=[{"use_sim_time": sim_time(arguments)}],
        remappings=[*((f"/{topic}", topic) for topic in topics), ("/points", arguments["points_topic"])],
        additional_env=environment(arguments),
    )


def player(arguments: dict[str, str]) -> ExecuteProcess:
    """Build the package's own bag player, which needs no rosbag2; it starts once the node has subscribed."""
    points = arguments["points_topic"]
    if not points.startswith("/"):
        points = "/".join(["", *filter(None, [arguments["namespace"].strip("/")]), points])
    program = [sys.executable, "-m", f"{PACKAGE}.harness.bag_player", arguments["bag"]]
    return ExecuteProcess(
        name="player",
        cmd=[*program, "--clock", "--wait-for-subscribers", f"{points}:1"],
        additional_env=environment(arguments),
        output="screen",
    )
