"""All fuzz targets with their shares of a campaign."""

from __future__ import annotations

from typing import NamedTuple


class TargetEntry(NamedTuple):
    """Path of a target's class, imported only by workers, and its number of inputs per 100,000."""

    path: str
    weight: int


_HERE, _VARIANTS = "test.fuzz.targets", "test.fuzz.variants"

TARGETS = {
    "points": TargetEntry(f"{_HERE}.codec:Points", 16_500),
    "images": TargetEntry(f"{_HERE}.codec:Images", 10_600),
    "camera_infos": TargetEntry(f"{_HERE}.codec:CameraInfos", 8_000),
    "transforms": TargetEntry(f"{_HERE}.codec:Transforms", 6_000),
    "label_infos": TargetEntry(f"{_HERE}.codec:LabelInfos", 7_000),
    "sync": TargetEntry(f"{_HERE}.matching:Sync", 5_000),
    "pipeline": TargetEntry(f"{_HERE}.segmentation:Student", 4_000),
    "teacher": TargetEntry(f"{_HERE}.segmentation:Teacher", 2_000),
    "node": TargetEntry(f"{_HERE}.node:Callbacks", 2_500),
    "node_start": TargetEntry(f"{_HERE}.node:Start", 300),
    "tf": TargetEntry(f"{_HERE}.node:Tf", 4_000),
    "models": TargetEntry(f"{_HERE}.files:Models", 5_000),
    "sensors": TargetEntry(f"{_HERE}.files:Sensors", 3_000),
    "label_files": TargetEntry(f"{_HERE}.files:LabelFiles", 3_000),
    "names": TargetEntry(f"{_HERE}.files:Names", 1_000),
    "bags": TargetEntry(f"{_HERE}.bags:Bags", 2_000),
    "recover": TargetEntry(f"{_HERE}.recordings:Recover", 600),
    "training_yaml": TargetEntry(f"{_HERE}.settings:TrainingYaml", 1_500),
    "checkpoints": TargetEntry(f"{_HERE}.checkpoints:Checkpoints", 800),
    "datasets": TargetEntry(f"{_HERE}.datasets:Datasets", 2_000),
    "networks": TargetEntry(f"{_HERE}.networks:OnnxRuntime", 2_000),
    "networks_openvino": TargetEntry(f"{_HERE}.networks:OpenVino", 200),
    "check_sweep": TargetEntry(f"{_HERE}.caches:CheckSweep", 2_000),
    "engines": TargetEntry(f"{_HERE}.caches:Engines", 1_500),
    "fastest": TargetEntry(f"{_HERE}.caches:Fastest", 1_500),
    "cloud_layouts": TargetEntry(f"{_VARIANTS}.clouds:CloudLayouts", 1_300),
    "point_times": TargetEntry(f"{_VARIANTS}.clouds:PointTimes", 1_500),
    "encodings": TargetEntry(f"{_VARIANTS}.images:Encodings", 1_500),
    "lenses": TargetEntry(f"{_VARIANTS}.images:Lenses", 1_500),
    "bag_forms": TargetEntry(f"{_VARIANTS}.bags:BagForms", 600),
    "dataset_parts": TargetEntry(f"{_VARIANTS}.datasets:DatasetParts", 400),
    "tables": TargetEntry(f"{_VARIANTS}.datasets:Tables", 300),
    "rings": TargetEntry(f"{_VARIANTS}.lidars:Rings", 50),
    "report_cameras": TargetEntry(f"{_VARIANTS}.reports:ReportCameras", 50),
    "input_units": TargetEntry(f"{_VARIANTS}.inputs:InputUnits", 50),
    "truth_names": TargetEntry(f"{_VARIANTS}.truths:TruthNames", 50),
    "clocks": TargetEntry(f"{_VARIANTS}.clocks:Clocks", 500),
    "parameter_files": TargetEntry(f"{_VARIANTS}.nodes:ParameterFiles", 100),
    "frame_names": TargetEntry(f"{_VARIANTS}.nodes:FrameNames", 100),
}
