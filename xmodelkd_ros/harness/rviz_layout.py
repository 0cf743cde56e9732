"""RViz layout of a launch: fixed frame and camera images as they are on this vehicle."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_IMAGE = "rviz_default_plugins/Image"
_SHOWN = 3
"""Cameras whose images are shown from the start: more do not fit beside the clouds."""


def rviz_layout(template: Path, frame: str, images: Mapping[str, str]) -> Path:
    """Write the shipped layout for a vehicle; returns its path, or the template's if nothing differs.

    Args:
        template: the shipped layout.
        frame: frame in which everything is drawn; empty for the template's.
        images: absolute topic of the images of each camera by name; empty for the template's.
    """
    if not frame and not images:
        return template
    layout = yaml.safe_load(template.read_text(encoding="utf-8"))
    manager = layout["Visualization Manager"]
    if frame:
        manager["Global Options"]["Fixed Frame"] = frame
    if images:
        displays = manager["Displays"]
        example = next(display for display in displays if display["Class"] == _IMAGE)
        others = [display for display in displays if display["Class"] != _IMAGE]
        cameras = [_display(example, *camera, number < _SHOWN) for number, camera in enumerate(images.items())]
        manager["Displays"] = [*others, *cameras]
    path = Path(tempfile.mkdtemp(prefix="xmodelkd_rviz_")) / template.name
    path.write_text(yaml.safe_dump(layout, sort_keys=False), encoding="utf-8")
    return path


def _display(example: Mapping[str, Any], name: str, topic: str, shown: bool) -> dict[str, Any]:
    display = copy.deepcopy(dict(example))
    display.update({"Name": name.replace("_", " ").capitalize(), "Enabled": shown, "Value": shown})
    display["Topic"]["Value"] = topic
    return display
