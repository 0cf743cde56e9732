"""Inputs of the launch files, checked before anything starts: parameter files, and the topics of a bag to play."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xmodelkd_ros.core.errors import BagError, ConfigError, listed, one_line, shortened
from xmodelkd_ros.core.similar_names import nearest_name
from xmodelkd_ros.messages.topics import SEGMENTER, camera_topics
from xmodelkd_ros.resources import user_path

_PARAMETERS = "ros__parameters"
_WILDCARDS = {"*": "/[^/]+", "**": "(/[^/]+)*"}
"""Regular expressions of the tokens that ROS allows in the node names of parameter files."""


def existing_file(argument: str, text: str) -> str:
    """Path of a file given as a launch argument, ``~`` expanded.

    Raises:
        ConfigError: it is no file.
    """
    path = user_path(text)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"{argument}:={path} {what}; give the path of a file")
    return str(path)


def misspelt_arguments(given: Iterable[str], known: Collection[str]) -> list[str]:
    """Warnings about launch arguments (``NAME:=VALUE``) that resemble known ones; ros2 launch accepts any name.

    Others may be those of a launch file that includes this one.
    """
    names = [word.partition(":=")[0] for word in given if ":=" in word]
    nearest = {name: nearest_name(name, known) for name in names if name not in known}
    return [
        f"launch argument {shortened(name)} is unknown and has no effect; is it misspelt? The nearest is {near}"
        for name, near in nearest.items()
        if near
    ]


def absolute_namespace(namespace: str, pushed: str = "") -> str:
    """Namespace of the node, without a slash at the end: a relative one is below that of the including launch file."""
    parts = [namespace] if namespace.startswith("/") else [pushed, namespace]
    return "".join(f"/{token}" for token in "/".join(parts).split("/") if token)


def resolve(topic: str, namespace: str) -> str:
    """Absolute name of a topic that the node in this namespace uses."""
    if topic.startswith("~"):
        return f"{namespace}/{SEGMENTER}/{topic.lstrip('~/')}"
    return topic if topic.startswith("/") else f"{namespace}/{topic}"


def read_parameters(argument: str, path: str, namespace: str) -> tuple[dict[str, Any], list[str]]:
    """Parameters that the node takes from a parameter file.

    Args:
        argument: launch argument that names the file, for messages.
        path: the file.
        namespace: absolute namespace of the node.

    Returns:
        Values by full parameter name, and warnings.

    Raises:
        ConfigError: the file cannot be read or is no parameter file.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {argument}:={path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{argument}:={path} is not YAML: {one_line(error)}") from error
    sections = list(_sections(content)) if isinstance(content, dict) else []
    if content is not None and content != {} and not sections:
        raise ConfigError(f"{argument}:={path} is not a parameter file; it must begin with '/**:' and '{_PARAMETERS}:'")
    node = f"{namespace}/{SEGMENTER}"
    taken = [values for name, values in sections if _is_for(name, node)]
    values = dict(pair for section in taken for pair in _flat(section))
    if values:
        return values, []
    if taken or not sections:
        return {}, [f"{argument}:={path} sets no parameter"]
    names = listed(sorted({name for name, _ in sections}))
    return {}, [f"{argument}:={path} has no effect: it is for {names}, and the node is {node}; name it '/**'"]


def _sections(content: Mapping[Any, Any], name: str = "") -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Node names of a parameter file with their parameters."""
    for key, value in content.items():
        if key == _PARAMETERS:
            yield name or "/", value if isinstance(value, dict) else {}
        elif isinstance(value, dict):
            yield from _sections(value, f"{name}/{str(key).lstrip('/')}")


def _is_for(name: str, node: str) -> bool:
    tokens = (token for token in name.split("/") if token)
    return re.fullmatch("".join(_WILDCARDS.get(token, f"/{re.escape(token)}") for token in tokens), node) is not None


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def camera_inputs(parameters: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Topics of images and CameraInfo of the cameras that the parameters name, by camera, not resolved."""
    given = (parameters.get(key) for key in ("camera_names", "cameras"))  # a dump of the node's has the former
    names = [name for cameras in given for name in (cameras if isinstance(cameras, list) else [cameras]) if name]
    topics: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(map(str, names)):
        group = f"cameras.{name}"
        image = str(parameters.get(f"{group}.image_topic") or f"{name}/image_raw")
        info = str(parameters.get(f"{group}.info_topic") or "")
        topics[name] = camera_topics(image, info, parameters.get(f"{group}.compressed") is True)
    return topics


@dataclass(frozen=True)
class Playback:
    """How the bag player reaches the node.

    Attributes:
        points: topic of the sweeps in the bag.
        renamed: topics of the bag that are played under another name.
        left_out: topics of the bag that are not played, because the node publishes them.
        topics: topics to play.
    """

    points: str
    renamed: dict[str, str]
    left_out: list[str]
    topics: list[str]

    def arguments(self) -> list[str]:
        """Arguments of the bag player."""
        chosen = ["--topics", *self.topics] if self.left_out else []
        rules = [word for old, new in self.renamed.items() for word in ("-r", f"{old}:={new}")]
        return [*chosen, "--wait-for-subscribers", f"{self.points}:1", *(["--ros-args", *rules] if rules else [])]

    def notes(self) -> list[str]:
        """What differs from the bag."""
        notes = [f"{old} of the bag is played as {new}" for old, new in self.renamed.items()]
        if self.left_out:
            notes.append(f"not played, since the node publishes them: {listed(self.left_out)}")
        return notes


def playback(bag: Path, namespace: str, points_topic: str, cameras: Iterable[str] = ()) -> Playback:
    """Find the topics of a bag that the node subscribes to, under whatever name.

    Args:
        bag: the bag.
        namespace: absolute namespace of the node.
        points_topic: topic of the sweeps that the node subscribes to; may be relative.
        cameras: topics of images and CameraInfo that it subscribes to; may be relative.

    Raises:
        BagError: the bag cannot be read, or holds several clouds of which none has the name.
    """
    from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, BagReader  # not needed without a bag

    with BagReader(bag) as reader:
        counts = {topic.name: topic.count for topic in reader.topics.values() if topic.type == POINT_CLOUD_TYPE}
        names = list(reader.topics)
    left_out = [name for name in names if name.startswith(f"{namespace}/{SEGMENTER}/")]
    clouds = {name: n for name, n in counts.items() if n and name not in left_out}
    wanted = resolve(points_topic, namespace)
    points = _in_bag(points_topic, namespace, clouds) or _only(clouds, bag, wanted)
    renamed = {points: wanted} if points != wanted else {}
    for topic in cameras:
        found = _in_bag(topic, namespace, names)
        if found is not None and found != resolve(topic, namespace):
            renamed[found] = resolve(topic, namespace)
    return Playback(points, renamed, left_out, [name for name in names if name not in left_out])


def frame_of(bag: Path, points: str) -> str:
    """Frame of the first cloud on a topic of a bag; empty if it cannot be read."""
    from xmodelkd_ros.bags.bag import BagReader

    try:
        with BagReader(bag) as reader:
            return str(reader.first(points).message.header.frame_id).lstrip("/")
    except BagError:
        return ""


def _in_bag(topic: str, namespace: str, names: Collection[str]) -> str | None:
    """The topic's name in the bag, with or without the namespace."""
    return next((name for name in (resolve(topic, namespace), resolve(topic, "")) if name in names), None)


def _only(clouds: Mapping[str, int], bag: Path, wanted: str) -> str:
    if not clouds:
        raise BagError(f"bag {bag} has no PointCloud2 topic with messages")
    if len(clouds) > 1:
        listing = listed(f"{name} ({count} sweeps)" for name, count in clouds.items())
        raise BagError(
            f"bag {bag} has several PointCloud2 topics and none is {wanted}; name one by points_topic: {listing}"
        )
    return next(iter(clouds))
