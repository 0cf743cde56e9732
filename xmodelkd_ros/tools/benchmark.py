"""``xmodelkd benchmark``: latency of each stage on this machine, on a synthetic sweep."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, message_class
from xmodelkd_ros.console import progress
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.harness.synthetic_sweep import sweep_message, synthetic_sweep
from xmodelkd_ros.inference.cpu import cores, cpu_name, gemm_peak_gflops
from xmodelkd_ros.inference.network_cost import gflop
from xmodelkd_ros.messages.clouds import labels_to_msg, to_cloud
from xmodelkd_ros.messages.images import image_to_array
from xmodelkd_ros.opencv import opencv
from xmodelkd_ros.reports.report import Run, summary, write_report
from xmodelkd_ros.reports.scores import Scores
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.auto_sensor import SWEEPS, chosen_sensor
from xmodelkd_ros.segmentation.backend_selection import BackendChoice, select_backend
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

_WARM_UP = SWEEPS + 2
"""Sweeps before the measured ones; the sensor is estimated by then."""
_VIEW_DEG = 70.0


@dataclass(frozen=True)
class Load:
    """Input of the benchmark.

    Attributes:
        points: number of points of the synthetic sweep.
        cameras: number of cameras, each with a JPEG image.
        width: of the images, pixels.
        height: of the images, pixels.
        sensor: ``auto``, ``none``, or a sensor file.
    """

    points: int = 131072
    cameras: int = 0
    width: int = 1920
    height: int = 1080
    sensor: str = "auto"

    def __str__(self) -> str:
        images = f", {self.cameras} images of {self.width}x{self.height}" if self.cameras else ""
        return f"{self.points:,} points{images}"


def benchmark(
    model: str, out: Path, load: Load, backend: str = "auto", precision: str = "auto", repeats: int = 100
) -> dict[str, Any]:
    """Time all stages of a sweep in the node except DDS, and write the report; returns the content of ``metrics.json``.

    Raises:
        XModelKDError: the model cannot be used, or not with this number of cameras.
    """
    make_folder(out)
    folder = find_model(model)
    choice = select_backend(folder, backend, precision)
    pipeline = SegmentationPipeline.load(folder, choice.backend, precision, chosen_sensor(load.sensor))
    if load.cameras and pipeline.spec.image_branch is None:
        raise ConfigError(
            f"--model {model} names a student, which takes no images; give --model teacher, or no --cameras"
        )
    message = sweep_message(synthetic_sweep(pipeline.spec.projection, load.points))
    cameras = [(_camera(number, load), _image(number, load)) for number in range(load.cameras)]
    scores = Scores(pipeline.labels, usable=pipeline.usable)
    for repeat in progress(range(-_WARM_UP, repeats), _WARM_UP + repeats, "benchmark"):
        cloud, segmentation, stages = _one_sweep(pipeline, message, cameras)
        if repeat >= 0:
            scores.add(cloud, segmentation, stages_ms=stages, mode="teacher" if cameras else "student")
    metrics = scores.metrics(pipeline.spec, pipeline.backend.name, pipeline.backend.precision)
    metrics["sensor"] = dict(pipeline.sensor_facts)
    metrics["benchmark"] = _machine(pipeline, folder, load, metrics["stages_ms"]["infer"]["p50"])
    facts = _facts(metrics["benchmark"], pipeline, choice)
    settings = {"backend": backend, "precision": precision, "sensor": load.sensor}
    images = f" --cameras {load.cameras} --image-size {load.width}x{load.height}" if load.cameras else ""
    options = "".join(f" --{name} {value}" for name, value in settings.items() if value != "auto")
    command = f"xmodelkd benchmark --model {model}{options} --points {load.points}{images} --out {out}"
    run = Run(f"{load}, timed", command, "the time of all stages, without DDS", facts)
    report = write_report(out, run, metrics, scores, pipeline.spec)
    _print(metrics, facts, report)
    return metrics


def _camera(number: int, load: Load) -> CameraModel:
    """One of six cameras around the vehicle, with slightly overlapping fields of view."""
    focal = load.width / 2 / np.tan(np.radians(_VIEW_DEG / 2))
    intrinsic = np.array([[focal, 0, load.width / 2 - 0.5], [0, focal, load.height / 2 - 0.5], [0, 0, 1]])
    heading = np.radians(60.0 * number)
    ahead, left = (np.cos(heading), np.sin(heading)), (-np.sin(heading), np.cos(heading))
    from_lidar = np.array([[-left[0], -left[1], 0, 0], [0, 0, -1, 0], [ahead[0], ahead[1], 0, 0], [0, 0, 0, 1]])
    return CameraModel(f"camera_{number}", load.width, load.height, intrinsic, from_lidar)


def _image(number: int, load: Load) -> Any:
    """A CompressedImage of patches and noise, about as expensive to decode as a street scene."""
    cv2 = opencv()
    rng = np.random.default_rng(number)
    patches = cv2.resize(rng.uniform(0, 230, (68, 120, 3)).astype(np.float32), (load.width, load.height))
    noisy = patches + rng.uniform(0, 25, (load.height, load.width, 1)).astype(np.float32)
    data = cv2.imencode(".jpg", noisy.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].ravel()
    header = message_class("std_msgs/msg/Header")(message_class("builtin_interfaces/msg/Time")(0, 0), "camera")
    return message_class("sensor_msgs/msg/CompressedImage")(header, "jpeg", data)


def _one_sweep(
    pipeline: SegmentationPipeline, message: Any, cameras: Sequence[tuple[CameraModel, Any]]
) -> tuple[PointCloud, Segmentation, dict[str, float]]:
    start = perf_counter()
    cloud = to_cloud(message)
    decoded = perf_counter()
    camera_frames = [CameraFrame(camera, image_to_array(image)) for camera, image in cameras]
    images_decoded = perf_counter()
    result = pipeline.segment(cloud, images=camera_frames)
    segmented = perf_counter()
    labels_to_msg(cloud, result.segmentation, message.header, ROSBAGS_TYPES)
    end = perf_counter()
    stages = {"decode": (decoded - start) * 1e3}
    stages |= {"decode_images": (images_decoded - decoded) * 1e3} if cameras else {}
    stages |= {**result.stages_ms, "encode": (end - segmented) * 1e3}
    return cloud, result.segmentation, stages


def _machine(pipeline: SegmentationPipeline, folder: Path, load: Load, infer_ms: float) -> dict[str, Any]:
    """Operations of the network, peak performance of the machine, and memory."""
    spec = pipeline.spec
    work = gflop(spec.network_path(folder, pipeline.backend.precision))
    runs = -(-load.points // spec.max_points)
    peak = gemm_peak_gflops()
    return {
        "points": load.points,
        "cameras": load.cameras,
        "network_runs": runs,
        "network_gflop": work,
        "gemm_peak_gflops": round(peak, 1),
        "gemm_peak_share": None if work is None else round(work * runs / (infer_ms / 1e3) / peak, 3),
        "memory_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "cores": cores(),
        "cpu": cpu_name(),
    }


def _facts(
    machine: Mapping[str, Any], pipeline: SegmentationPipeline, choice: BackendChoice
) -> tuple[tuple[str, str], ...]:
    work, share = machine["network_gflop"], machine["gemm_peak_share"]
    unknown = "not counted: install onnx"
    return (
        ("machine", f"{machine['cpu']}, {machine['cores']} cores"),
        ("sensor", pipeline.sensor_facts["description"]),
        ("back end", f"{pipeline.backend.name}, {pipeline.backend.precision}; {choice.reason or 'as requested'}"),
        ("network", unknown if work is None else f"{work:.2f} GFLOP, {machine['network_runs']} run(s) a sweep"),
        ("measured GEMM peak", f"{machine['gemm_peak_gflops']:.0f} GFLOP/s (numpy, float32)"),
        ("network throughput", unknown if share is None else f"{share:.0%} of the GEMM peak"),
        ("peak memory of this process", f"{machine['memory_peak_mb']:.0f} MB"),
    )


def _print(metrics: Mapping[str, Any], facts: tuple[tuple[str, str], ...], report: Path) -> None:
    print(f"{'stage':<12}{'p50, ms':>9}{'p99, ms':>9}")
    for stage, times in metrics["stages_ms"].items():
        print(f"{stage:<12}{times['p50']:>9.2f}{times['p99']:>9.2f}")
    for name, value in facts:
        print(f"{name}: {value}")
    print(f"{summary(metrics)} | report {report}")
