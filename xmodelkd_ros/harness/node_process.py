"""Command line of the node's process and the stage times in its status messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from xmodelkd_ros.bags.mounted_cameras import MountedCamera, node_parameters
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.resources import find_model, given_sensor


def node_arguments(
    options: RunOptions, points_topic: str, cameras: Sequence[MountedCamera], sim_time: bool = True
) -> list[str]:
    """ROS arguments of the node.

    With a fixed frame the extrinsics come from TF too, as on a vehicle.
    """
    is_teacher = options.mode == "teacher"
    parameters: dict[str, Any] = {
        "model": find_model(options.student if is_teacher else options.model).resolve(),
        "mode": options.mode,
        "backend": options.backend,
        "precision": options.precision,
        "sensor": options.sensor,
        "missing_intensity": options.missing_intensity,
        "use_sim_time": json.dumps(sim_time),
    }
    if is_teacher:
        parameters |= {"teacher_model": find_model(options.model).resolve()}
        matching = options.camera_options
        parameters |= {"sync.slop": matching.slop_ns * 1e-9, "sync.deadline": matching.deadline_ns * 1e-9}
        parameters["cameras"] = f"[{', '.join(camera.model.name for camera in cameras)}]"
        if options.camera_options.fixed_frame:
            parameters["fixed_frame"] = options.camera_options.fixed_frame
        for camera in cameras:
            described = node_parameters(camera, from_tf=bool(options.camera_options.fixed_frame))
            parameters |= {f"cameras.{camera.model.name}.{key}": json.dumps(value) for key, value in described.items()}
    pairs = [text for name, value in parameters.items() for text in ("-p", f"{name}:={value}")]
    return ["--ros-args", *pairs, "-r", f"points:={points_topic}"]


def usable_arguments(options: RunOptions) -> list[str]:
    """Arguments of a recorder of the node's labels: the points that the model and the sensor make usable."""
    sensor = given_sensor(options.sensor)
    min_range_m = sensor.min_range_m if sensor is not None else 0
    min_range_m = min_range_m or ModelSpec.read(find_model(options.model)).projection.min_range_m
    box = [str(value) for value in sensor.ego_box] if sensor is not None else []
    return ["--min-range", str(min_range_m), *(["--ego-box", *box] if box else [])]


def stages_ms(values: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds per stage in the values of a status: every ``<stage>_ms`` except the total."""
    return {
        name.removesuffix("_ms"): float(value)
        for name, value in values.items()
        if name.endswith("_ms") and name != "latency_ms"
    }
