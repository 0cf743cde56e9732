"""The targets: where their classes are, and how many of 100,000 inputs each gets."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a target's class is, and its inputs of 100,000. Nothing is imported before a worker attacks it."""

    where: str
    share: int


_HERE = "test.fuzz.targets"

TARGETS = {
    "points": Place(f"{_HERE}.codec:Points", 24_500),
    "images": Place(f"{_HERE}.codec:Images", 10_600),
    "camera_infos": Place(f"{_HERE}.codec:CameraInfos", 8_000),
    "transforms": Place(f"{_HERE}.codec:Transforms", 6_000),
    "label_infos": Place(f"{_HERE}.codec:LabelInfos", 7_000),
    "sync": Place(f"{_HERE}.matching:Sync", 5_000),
    "pipeline": Place(f"{_HERE}.segmentation:Student", 4_000),
    "teacher": Place(f"{_HERE}.segmentation:Teacher", 2_000),
    "node": Place(f"{_HERE}.node:Callbacks", 2_500),
    "node_start": Place(f"{_HERE}.node:Start", 300),
    "tf": Place(f"{_HERE}.node:Tf", 4_000),
    "models": Place(f"{_HERE}.files:Models", 5_000),
    "sensors": Place(f"{_HERE}.files:Sensors", 3_000),
    "label_files": Place(f"{_HERE}.files:LabelFiles", 3_000),
    "names": Place(f"{_HERE}.files:Names", 1_000),
    "bags": Place(f"{_HERE}.bags:Bags", 2_000),
    "recover": Place(f"{_HERE}.recordings:Recover", 600),
    "training_yaml": Place(f"{_HERE}.settings:TrainingYaml", 1_500),
    "checkpoints": Place(f"{_HERE}.checkpoints:Checkpoints", 800),
    "datasets": Place(f"{_HERE}.datasets:Datasets", 2_000),
    "networks": Place(f"{_HERE}.networks:OnnxRuntime", 2_000),
    "networks_openvino": Place(f"{_HERE}.networks:OpenVino", 200),
    "check_sweep": Place(f"{_HERE}.caches:CheckSweep", 2_000),
    "engines": Place(f"{_HERE}.caches:Engines", 1_500),
    "fastest": Place(f"{_HERE}.caches:Fastest", 1_500),
}
