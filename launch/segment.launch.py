"""Launch the segmenter, optionally with RViz and a bag player.

Launch arguments take precedence over cameras_file, and that over params_file; arguments that are not given leave the
values of the files unchanged. Everything that can be checked is checked before anything starts. If the node or the
player fails, everything ends, and the exit code is 1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
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
from launch.logging import get_logger
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from xmodelkd_ros.core.child_process import parent_variable
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness import launch_inputs
from xmodelkd_ros.harness.dds_profile import profile_variable, shipped_profile, user_profile
from xmodelkd_ros.harness.rviz_layout import rviz_layout
from xmodelkd_ros.resources import user_path

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
        description=f"student: LiDAR only. teacher: LiDAR and the cameras in cameras_file. {FROM_FILE}",
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
        "cameras_file",
        default_value="",
        description="Parameter file of the cameras (from 'xmodelkd fit-cameras'), beside params_file. "
        "Default: the cameras in params_file.",
    ),
    DeclareLaunchArgument(
        "sensor",
        default_value="",
        description="The LiDAR: auto (estimated from the first sweeps), none (that of the model's training), a sensor "
        f"file (from 'xmodelkd fit-sensor') or the name of a known one, such as VLP-16. {FROM_FILE}",
    ),
    DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=["true", "false"],
        description="Show the clouds in RViz, and the images of the cameras in cameras_file.",
    ),
    DeclareLaunchArgument(
        "rviz_frame",
        default_value="",
        description="Fixed frame of RViz. Default: that of the bag's clouds, or parameter fixed_frame, or lidar.",
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
    """Check the arguments and build the processes for them."""
    arguments = dict(context.launch_configurations)
    namespace = launch_inputs.absolute_namespace(arguments["namespace"], arguments.get("ros_namespace", ""))
    for warning in launch_inputs.misspelt_arguments(context.argv, [argument.name for argument in ARGUMENTS]):
        get_logger(PACKAGE).warning(warning)
    parameters = check_files(arguments, namespace)
    if arguments["build_only"] == "true":
        return segmenter(arguments)
    cameras = launch_inputs.camera_inputs(parameters)
    playback = None
    if arguments["bag"]:
        topics = [topic for pair in cameras.values() for topic in pair]
        bag = user_path(arguments["bag"])
        playback = launch_inputs.playback(bag, namespace, arguments["points_topic"], topics)
    processes = segmenter(arguments)
    if arguments["rviz"] == "true":
        frame = arguments["rviz_frame"] or (launch_inputs.frame_of(bag, playback.points) if playback else "")
        images = {name: launch_inputs.resolve(image, namespace) for name, (image, _) in cameras.items()}
        processes.append(rviz(arguments, frame or str(parameters.get("fixed_frame") or ""), images))
    if playback is not None:
        processes += player(arguments, playback)
    return processes


def check_files(arguments: dict[str, str], namespace: str) -> dict[str, Any]:
    """Check the files given and make their paths absolute; returns the parameters that the node takes from them."""
    parameters: dict[str, Any] = {}
    for name in ("params_file", "cameras_file"):
        if arguments[name]:
            arguments[name] = launch_inputs.existing_file(name, arguments[name])
            values, warnings = launch_inputs.read_parameters(name, arguments[name], namespace)
            parameters |= values
            for warning in warnings:
                get_logger(PACKAGE).warning(warning)
    profile = arguments["dds_profile"]
    if profile != "none" and profile == user_profile(os.environ) and not os.path.isfile(profile):
        get_logger(PACKAGE).warning(f"{profile_variable(os.environ)} names {profile}, which does not exist")
    elif profile != "none":
        arguments["dds_profile"] = launch_inputs.existing_file("dds_profile", profile)
    return parameters


def segmenter(arguments: dict[str, str]) -> list[LaunchDescriptionEntity]:
    """Build the node and a handler of its end."""
    process = node(arguments)
    at_end = OnProcessExit(target_action=process, on_exit=lambda event, context: node_ended(event, context, arguments))
    return [process, RegisterEventHandler(at_end)]


def node(arguments: dict[str, str]) -> Node:
    """Build the node."""
    files = [arguments[name] for name in ("params_file", "cameras_file") if arguments[name]]
    return Node(
        package=PACKAGE,
        executable="segment_node",
        name="segmenter",
        namespace=arguments["namespace"],
        parameters=[*files, overrides(arguments)],
        remappings=[("points", arguments["points_topic"])],
        # launch stops its processes on SIGINT only, so the node also watches it.
        additional_env={**environment(arguments), **parent_variable()},
        arguments=["--build-only"] if arguments["build_only"] == "true" else [],
        output="screen",
    )


def node_ended(
    event: ProcessExited, context: LaunchContext, arguments: dict[str, str]
) -> list[LaunchDescriptionEntity]:
    """Restart the node if a signal ended it, but not after an error exit, whose cause would recur."""
    if context.is_shutdown or event.returncode >= 0 or arguments["build_only"] == "true":
        return fail_with(event, context)
    log = LogInfo(
        msg=f"{event.process_name} was ended by signal {-event.returncode}; restarting in {RESTART_DELAY_S} s"
    )
    return [log, TimerAction(period=RESTART_DELAY_S, actions=segmenter(arguments))]


def fail_with(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """End the launch with exit code 1 if a process failed: no action of launch does that, only an exception."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}; its output tells why")
    return []


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


def rviz(arguments: dict[str, str], frame: str, images: dict[str, str]) -> Node:
    """Build RViz with the shipped layout, its frame and images those of this vehicle, its topics those of this launch.

    Raises:
        ConfigError: RViz is not installed.
    """
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError as error:
        package = f"ros-{os.environ.get('ROS_DISTRO', '$ROS_DISTRO')}-rviz2"
        raise ConfigError(
            f"rviz:=true needs rviz2, which is not installed; run 'sudo apt install {package}'"
        ) from error
    topics = ("segmenter/colored", "segmenter/labels")
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=arguments["namespace"],
        arguments=["-d", str(rviz_layout(Path(SHARE, "config", "segment.rviz"), frame, images))],
        parameters=[{"use_sim_time": sim_time(arguments)}],
        remappings=[*((f"/{topic}", topic) for topic in topics), ("/points", arguments["points_topic"])],
        additional_env=environment(arguments),
    )


def player(arguments: dict[str, str], playback: launch_inputs.Playback) -> list[LaunchDescriptionEntity]:
    """Build the package's own bag player, which needs no rosbag2; it starts once the node has subscribed."""
    bag = user_path(arguments["bag"])
    process = ExecuteProcess(
        name="player",
        cmd=[sys.executable, "-m", f"{PACKAGE}.harness.bag_player", str(bag), "--clock", *playback.arguments()],
        additional_env={**environment(arguments), **parent_variable()},
        output="screen",
    )
    notes = [LogInfo(msg=note) for note in playback.notes()]
    return [*notes, process, RegisterEventHandler(OnProcessExit(target_action=process, on_exit=fail_with))]
