"""Seed corpus of valid messages: clouds of any layout, images of any encoding, calibrations, transforms."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import TYPES
from xmodelkd_ros.opencv import opencv

FRAME, OPTICAL = "lidar", "camera"
WIDTH, HEIGHT = 48, 32
_CODES = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
_FIELDS = ("x", "y", "z", "intensity", "ring", "label", "time", "reflectivity", "channel", "i")
_CHANNELS = {
    **dict.fromkeys(("rgb8", "bgr8"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("mono8", "bayer_rggb8", "bayer_grbg8", "8UC1"), 1),
    **dict.fromkeys(("yuv422", "yuv422_yuy2", "uyvy", "mono16", "16UC1"), 2),
    **dict.fromkeys(("nv12", "nv21"), 1),
    **{"rgb16": 6, "bgra16": 8, "bayer_bggr16": 2, "32FC1": 4, "8UC3": 3},
}
FORMATS = (".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm", ".pgm", ".gif", ".jp2", ".hdr", ".ras", ".pfm")


def make(msgtype: str, **values: Any) -> Any:
    """A message of a standard type, such as ``std_msgs/msg/Header``."""
    return TYPES.types[msgtype](**values)


def header(stamp_ns: int = 1_000_000_000, frame: str = FRAME) -> Any:
    """A header."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def cloud(mutator: Mutator) -> Any:
    """A PointCloud2 of any layout: fields in any order and type, gaps, rows with padding, either byte order."""
    names = list(_FIELDS[: 4 + mutator.below(len(_FIELDS) - 3)])
    if mutator.chance(0.5):
        mutator.random.shuffle(names)
    fields, step = [], mutator.below(3)
    for name in names:
        code = 6 if mutator.chance(0.6) else mutator.below(8)
        fields.append(make("sensor_msgs/msg/PointField", name=name, offset=step, datatype=code + 1, count=1))
        step += np.dtype(_CODES[code]).itemsize + mutator.pick((0, 0, 0, 1, 4))
    return _with_points(mutator, fields, step)


def _with_points(mutator: Mutator, fields: list[Any], step: int) -> Any:
    height, width = mutator.pick((1, 1, 2, 4)), mutator.pick((0, 1, 5, 30, 200))
    row_step = width * step + mutator.pick((0, 0, 7))
    data = np.frombuffer(mutator.random.randbytes(height * row_step), np.uint8).copy()
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header(),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=mutator.chance(0.2),
        point_step=step,
        row_step=row_step,
        data=data,
        is_dense=False,
    )


def sweep(xyz: NDArray[np.float32], stamp_ns: int = 1_000_000_000, frame: str = FRAME) -> Any:
    """A PointCloud2 of x, y, z and intensity, float32."""
    names = ("x", "y", "z", "intensity")
    fields = [
        make("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate(names)
    ]
    data = np.column_stack([xyz, np.full(len(xyz), 20, np.float32)]).astype("<f4").view(np.uint8).ravel()
    return make(
        "sensor_msgs/msg/PointCloud2", header=header(stamp_ns, frame), height=1, width=len(xyz), fields=fields,
        is_bigendian=False, point_step=16, row_step=16 * len(xyz), data=data, is_dense=True,
    )  # fmt: skip


def points(mutator: Mutator, count: int) -> NDArray[np.float32]:
    """(count, 3) positions around a LiDAR, metres."""
    return np.array([[mutator.random.uniform(-30, 30) for _ in range(3)] for _ in range(count)], np.float32).reshape(
        count, 3
    )


def raw_image(mutator: Mutator, stamp_ns: int = 1_000_000_000) -> Any:
    """An Image of any encoding."""
    encoding = mutator.pick(list(_CHANNELS))
    height, width = mutator.pick(((HEIGHT, WIDTH), (2, 4), (6, 2)))
    step = width * _CHANNELS[encoding] + mutator.pick((0, 0, 5))
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    data = np.frombuffer(mutator.random.randbytes(rows * step), np.uint8).copy()
    return make(
        "sensor_msgs/msg/Image", header=header(stamp_ns, OPTICAL), height=rows, width=width, encoding=encoding,
        is_bigendian=int(mutator.chance(0.1)), step=step, data=data,
    )  # fmt: skip


def picture(stamp_ns: int = 1_000_000_000, brightness: int = 200) -> Any:
    """An Image that matches the camera of :func:`calibration`."""
    data = np.full(HEIGHT * WIDTH * 3, brightness, np.uint8)
    return make(
        "sensor_msgs/msg/Image", header=header(stamp_ns, OPTICAL), height=HEIGHT, width=WIDTH, encoding="rgb8",
        is_bigendian=0, step=3 * WIDTH, data=data,
    )  # fmt: skip


@cache
def encoded(suffix: str) -> bytes:
    """A small image encoded in a format; empty if OpenCV cannot write it."""
    cv2 = opencv()
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    if suffix in (".hdr", ".pfm"):
        pixels = pixels.astype(np.float32)
    try:
        written, data = cv2.imencode(suffix, pixels if suffix != ".pgm" else pixels[:, :, 0])
    except cv2.error:
        return b""
    return data.tobytes() if written else b""


def compressed_image(mutator: Mutator, stamp_ns: int = 1_000_000_000) -> Any:
    """A CompressedImage in one of the formats that OpenCV detects by their first bytes."""
    suffix = mutator.pick((".jpg", ".jpg", ".png", *FORMATS))
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp_ns, OPTICAL),
        format=suffix.removeprefix("."),
        data=np.frombuffer(encoded(suffix), np.uint8).copy(),
    )


_LENSES = (("plumb_bob", 5), ("plumb_bob", 4), ("rational_polynomial", 8), ("equidistant", 4), ("", 0))


def calibration(mutator: Mutator) -> Any:
    """A CameraInfo with one of the supported distortion models, sometimes with a region of interest and binning."""
    model, count = mutator.pick(_LENSES)
    focal = mutator.random.uniform(10, 60)
    k = np.array([focal, 0, WIDTH / 2 - 0.5, 0, focal, HEIGHT / 2 - 0.5, 0, 0, 1])
    p = np.insert(k.reshape(3, 3), 3, 0.0, axis=1).ravel()
    cut = mutator.chance(0.2)
    roi = make(
        "sensor_msgs/msg/RegionOfInterest", x_offset=4 * cut, y_offset=2 * cut, height=16 * cut, width=24 * cut,
        do_rectify=False,
    )  # fmt: skip
    d = np.array([mutator.random.uniform(-0.1, 0.1) for _ in range(count)])
    binning = mutator.pick((0, 0, 1, 2))
    return make(
        "sensor_msgs/msg/CameraInfo", header=header(frame=OPTICAL), height=HEIGHT, width=WIDTH, distortion_model=model,
        d=d, k=k, r=np.eye(3).ravel(), p=p, binning_x=binning, binning_y=binning, roi=roi,
    )  # fmt: skip


def transforms(mutator: Mutator) -> Any:
    """A TFMessage."""
    frames = [("base_link", FRAME), ("base_link", OPTICAL), ("map", "base_link"), ("/odom", "/base_link")]
    return make("tf2_msgs/msg/TFMessage", transforms=[transform(mutator, *frames[i]) for i in range(mutator.below(5))])


def transform(mutator: Mutator, parent: str = "base_link", child: str = FRAME, stamp_ns: int = 0) -> Any:
    """A TransformStamped."""
    numbers = [mutator.random.uniform(-1, 1) for _ in range(7)]
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=make("geometry_msgs/msg/Vector3", **dict(zip("xyz", numbers[:3], strict=True))),
            rotation=make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", numbers[3:], strict=True))),
        ),
    )
