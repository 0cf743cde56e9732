"""All message layout: point clouds, images and camera calibration to core types and back.

Takes rclpy's messages and those of the rosbags library alike: both name their attributes as the
ROS definitions do. Neither library is imported; the caller hands in the classes to construct.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.distortion import Lens
from xmodelkd_ros.core.errors import CloudError, ConfigError, ImageError, LabelError, quoted, shortened
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.opencv import decoded, opencv
from xmodelkd_ros.point_layout import Column, PointLayout, allocate_data, to_float32, write_points
from xmodelkd_ros.point_layout import MessageTypes as MessageTypes

INTENSITY_FIELDS = ("intensity", "i", "reflectivity")
"""Names of the intensity, first found wins. Velodyne, Hesai, Livox, RoboSense and Ouster drivers and Autoware
write ``intensity``; ``i`` stands in clouds converted from data sets; ``reflectivity`` is what Ouster's native
point types have instead."""

RING_FIELDS = ("ring", "channel")
"""Names of the beam number, first found wins: ``ring`` of most drivers, ``channel`` of Autoware's point types."""

_REASON = 160
"""Characters of a library's error that are passed on."""

MissingIntensity = Literal["reject", "fill"]


# --- point clouds ----------------------------------------------------------------------------------------------------


def to_cloud(msg: Any, missing_intensity: MissingIntensity = "reject") -> PointCloud:
    """Decode a PointCloud2 of any layout.

    Every point is kept, NaN, infinite and zero positions too. Of a field with several elements the
    first is taken. Little-endian float32 values are views into the message where rows are contiguous.

    Args:
        msg: sensor_msgs/PointCloud2, ``data`` as bytes, array.array, numpy array or memoryview.
        missing_intensity: ``reject`` a cloud without an intensity field, or ``fill`` with zeros.

    Returns:
        Positions in the message's frame, intensity, and ring if there is a field for it.

    Raises:
        CloudError: x, y, z or intensity is missing, or the declared layout contradicts itself or the data.
    """
    layout = PointLayout.of(msg)
    if len(layout) == 0:
        # Without points a driver need not know its fields.
        none = np.zeros((0, 3), np.float32)
        return PointCloud(none, none[:, 0], None, layout.height, layout.width)
    return PointCloud(layout.xyz(), _intensity(layout, missing_intensity), _ring(layout), layout.height, layout.width)


def _intensity(layout: PointLayout, missing: MissingIntensity) -> NDArray[np.float32]:
    field = layout.find(INTENSITY_FIELDS)
    if field is not None:
        return to_float32(layout.values(field))
    if missing == "fill":
        return np.zeros(len(layout), np.float32)
    raise CloudError(
        f"the cloud has no field {' or '.join(INTENSITY_FIELDS)}; it has {layout.field_names}. "
        "Set missing_intensity to 'fill' to take zeros"
    )


def _ring(layout: PointLayout) -> NDArray[np.integer] | None:
    field = layout.find(RING_FIELDS)
    if field is None:
        return None
    values = layout.values(field)
    if values.dtype.kind == "f":
        # Converted bags store everything as float; -1 is no beam.
        return np.where(np.isfinite(values), values, -1).clip(-1, 65535).astype(np.int32)
    return values


def has_field(msg: Any, name: str) -> bool:
    """Whether a PointCloud2 declares a field of this name."""
    return any(f.name == name for f in msg.fields)


def read_field(msg: Any, name: str) -> NDArray[Any]:
    """(N,) values of one field of a PointCloud2, such as the truth ``label``, in its own type, native byte order.

    Raises:
        CloudError: there is no such field, or the declared layout contradicts itself or the data.
    """
    layout = PointLayout.of(msg)
    return layout.values(layout.require(name))


def _xyz_columns(xyz: NDArray[np.float32]) -> list[Column]:
    return [Column(name, 4 * axis, "f4", xyz[:, axis]) for axis, name in enumerate("xyz")]


def labels_to_msg(
    cloud: PointCloud, segmentation: Segmentation, header: Any, types: MessageTypes, label_field: str = "label"
) -> Any:
    """Encode the labelled cloud.

    x, y, z FLOAT32 at 0, 4, 8, label UINT8 at 12, probability FLOAT32 at 16, entropy FLOAT32 at 20, point_step
    24: with ``class_id`` as the name of the label field this is Autoware's PointXYZCPE.

    Args:
        cloud: the sweep that was segmented; the message has its points, order and organisation.
        segmentation: one label per point; ``is_dense`` is false if any is 255.
        header: the input's header, taken as it is.
        types: the classes to construct.
        label_field: ``label``, or ``class_id`` for Autoware.

    Raises:
        CloudError: cloud and segmentation differ in length.
    """
    if len(segmentation) != len(cloud):
        raise CloudError(f"{len(segmentation)} labels for {len(cloud)} points")
    columns = [
        *_xyz_columns(cloud.xyz),
        Column(label_field, 12, "u1", segmentation.label),
        Column("probability", 16, "f4", segmentation.probability),
        Column("entropy", 20, "f4", segmentation.entropy),
    ]
    is_dense = not bool((segmentation.label == IGNORE).any())
    return write_points(header, (cloud.height, cloud.width), columns, 24, is_dense, types)


def colored_to_msg(
    cloud: PointCloud, label: NDArray[np.uint8], label_map: LabelMap, header: Any, types: MessageTypes
) -> Any:
    """Encode x, y, z and ``rgb`` for RViz: a FLOAT32 field whose bits are 0x00RRGGBB, the class's colour."""
    red, green, blue = label_map.palette.astype(np.uint32).T
    rgb = (red << 16 | green << 8 | blue).view(np.float32)[label]
    columns = [*_xyz_columns(cloud.xyz), Column("rgb", 12, "f4", rgb)]
    return write_points(header, (cloud.height, cloud.width), columns, 16, _is_finite(cloud.xyz), types)


def truth_to_msg(
    cloud: PointCloud,
    label: NDArray[np.uint8],
    header: Any,
    types: MessageTypes,
    time_s: NDArray[np.float32] | None = None,
) -> Any:
    """Encode a recorded sweep with its truth, point_step 20, or 24 with times.

    The fields: x, y, z, ``intensity`` FLOAT32, ``label`` UINT8 @16, ``ring`` UINT16 @18 where the cloud has it, and
    ``time`` FLOAT32 @20 where times are given (seconds from the header's stamp to the firing of each point).

    Raises:
        CloudError: the cloud has no intensity.
    """
    if cloud.intensity is None:
        raise CloudError("a sweep with truth needs an intensity")
    columns = [
        *_xyz_columns(cloud.xyz),
        Column("intensity", 12, "f4", cloud.intensity),
        Column("label", 16, "u1", label),
        *([] if cloud.ring is None else [Column("ring", 18, "u2", cloud.ring)]),
        *([] if time_s is None else [Column("time", 20, "f4", time_s)]),
    ]
    step = 20 if time_s is None else 24
    return write_points(header, (cloud.height, cloud.width), columns, step, _is_finite(cloud.xyz), types)


def _is_finite(xyz: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(xyz).all())


def filter_msg(msg: Any, keep: NDArray[np.bool_]) -> Any:
    """A PointCloud2 of the input's class and layout with only some of its points, in one row.

    Args:
        msg: the cloud to thin out; every field it has is kept, byte for byte.
        keep: (N,) mask of the points that stay.

    Raises:
        CloudError: the mask has another length, or the declared layout contradicts itself or the data.
    """
    layout = PointLayout.of(msg)
    if keep.shape != (len(layout),):
        raise CloudError(f"mask of shape {keep.shape} for {len(layout)} points")
    width = int(np.count_nonzero(keep))
    result = type(msg)(
        header=msg.header,
        height=1,
        width=width,
        fields=msg.fields,
        is_bigendian=msg.is_bigendian,
        point_step=msg.point_step,
        row_step=width * msg.point_step,
        data=b"",
        is_dense=msg.is_dense,
    )
    data = allocate_data(result, width * layout.point_step)
    if width:
        np.compress(keep, layout.records(), out=data.view((np.void, layout.point_step)))
    return result


# --- labels, stamps, transforms --------------------------------------------------------------------------------------


def label_info_json(label_map: LabelMap) -> str:
    """The text of the latched topic ``label_info_json``: what the numbers in a labelled cloud mean."""
    return json.dumps(label_map.to_dict())


def label_map_from_json(text: str) -> LabelMap:
    """Inverse of :func:`label_info_json`.

    Raises:
        LabelError: the text is not JSON, or not a label set.
    """
    try:
        data = parse_json(text)
    except ValueError as error:
        raise LabelError(f"label_info_json is not JSON: {error}") from error
    return LabelMap.from_dict(data)


def stamp_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp_from_ns(nanoseconds: int, time_type: Any) -> Any:
    """A builtin_interfaces/Time of the class given, from nanoseconds."""
    sec, nanosec = divmod(int(nanoseconds), 1_000_000_000)
    return time_type(sec=sec, nanosec=nanosec)


def static_transforms(msg: Any) -> dict[tuple[str, str], NDArray[np.float64]]:
    """The transforms of a tf2_msgs/TFMessage: (parent, child) to the (4, 4) matrix with p_parent = M @ p_child."""
    return dict(frames_and_pose(stamped) for stamped in msg.transforms)


def frames_and_pose(stamped: Any) -> tuple[tuple[str, str], NDArray[np.float64]]:
    """(parent, child) of a geometry_msgs/TransformStamped, and the (4, 4) matrix with p_parent = M @ p_child.

    Raises:
        ConfigError: its quaternion is no rotation, or its translation not finite.
    """
    t, q = stamped.transform.translation, stamped.transform.rotation
    frames = (stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/"))
    try:
        return frames, transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
    except ConfigError as error:
        raise ConfigError(f"transform from {quoted(frames[0])} to {quoted(frames[1])}: {error}") from error


# --- cameras ---------------------------------------------------------------------------------------------------------


def is_depth(msg: Any) -> bool:
    """Whether an Image or a CompressedImage shows distances (REP-118) and not a picture."""
    if hasattr(msg, "format"):
        return "compressedDepth" in str(msg.format)
    return msg.encoding in ("16UC1", "32FC1")


def image_to_array(msg: Any) -> NDArray[np.uint8]:
    """Decode an Image, by cv_bridge where ROS has it and by rosbags-image otherwise, or a CompressedImage, by OpenCV.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the data does not decode, the encoding is not a colour or grey image, or a library is not installed.
    """
    # Broken data surfaces as OpenCV's, numpy's or the libraries' own errors, one of them an AssertionError.
    kind = shortened(msg.format) if hasattr(msg, "format") else f"{shortened(msg.encoding)} {msg.width}x{msg.height}"
    if is_depth(msg):
        raise ImageError(f"image '{kind}' shows distances; name the topic of the camera's pictures")
    try:
        pixels = np.ascontiguousarray(decoded(msg.data) if hasattr(msg, "format") else _raw_decoder()(msg))
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(repr(error).replace("\\n", " ").split())
        raise ImageError(
            f"cannot decode image '{kind}' of {len(msg.data)} bytes: {reason[:_REASON]}; have the driver send rgb8, "
            "bgr8, mono8 or jpeg"
        ) from error
    if not pixels.size:
        raise ImageError(f"image '{kind}' is empty; look at the camera's driver")
    return pixels


def check_images() -> None:
    """Load the libraries that decode images, which takes long the first time.

    Raises:
        ImageError: one is not installed.
    """
    pixel = SimpleNamespace(encoding="rgb8", height=1, width=1, step=3, is_bigendian=0, data=np.zeros(3, np.uint8))
    image_to_array(pixel)
    opencv()


def _raw_decoder() -> Callable[[Any], NDArray[np.uint8]]:
    opencv()  # before others load it, without its limit
    bridge = _cv_bridge()
    if bridge is not None:

        def decode(msg: Any) -> NDArray[np.uint8]:
            packed = _without_padding(msg, *bridge.encoding_to_dtype_with_channels(msg.encoding))
            return np.asarray(bridge.imgmsg_to_cv2(packed, "rgb8"))

        return decode
    try:
        from rosbags.image import image_to_cvimage
        from rosbags.image.image import to_cvtype
    except ImportError as error:
        raise ImageError(
            f"images need cv_bridge with numpy 1, or rosbags-image and OpenCV ({error}); "
            "pip install rosbags-image[opencv]"
        ) from error
    return lambda msg: np.asarray(image_to_cvimage(_without_padding(msg, *to_cvtype(msg.encoding)[2:]), "rgb8"))


def _cv_bridge() -> Any:
    """The CvBridge of a ROS installation; None where there is none, or one that would end the process."""
    if int(np.__version__.split(".")[0]) > 1:
        return None  # ROS's packages are compiled for numpy 1, and crash with another at the first image
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge()


def _without_padding(msg: Any, dtype: str, channels: int) -> Any:
    """The image with its rows packed, as the libraries that decode it take for granted, or nearly so."""
    row_size = msg.width * channels * np.dtype(dtype).itemsize
    if msg.step <= row_size:
        return msg
    data: NDArray[np.uint8] = np.frombuffer(msg.data, np.uint8)
    if len(data) == msg.height * msg.step - (msg.step - row_size):  # some drivers leave the last row's padding out
        data = np.concatenate([data, np.zeros(msg.step - row_size, np.uint8)])
    rows = data[: msg.height * msg.step].reshape(msg.height, msg.step)
    return SimpleNamespace(
        encoding=msg.encoding,
        width=msg.width,
        height=msg.height,
        step=row_size,
        is_bigendian=msg.is_bigendian,
        data=np.ascontiguousarray(rows[:, :row_size]),
    )


def to_camera(info: Any, name: str, from_lidar: NDArray[np.float64], rectified: bool = False) -> CameraModel:
    """The camera that a CameraInfo describes, as its images are: of its region of interest, binned.

    Args:
        info: sensor_msgs/CameraInfo.
        name: the camera's name.
        from_lidar: (4, 4) extrinsic, LiDAR frame to the camera's optical frame.
        rectified: whether the images are (``image_rect``): undistorted, turned by ``info.r``, seen by ``info.p``.

    Raises:
        ConfigError: the camera is not calibrated, or has a lens that is not known.
    """
    if rectified:
        projection, turned = np.asarray(info.p, np.float64).reshape(3, 4), np.eye(4)
        intrinsic = projection[:, :3]
        _check_calibrated(name, intrinsic, "p")
        turned[:3, :3] = _rectifying(name, info)
        turned[:3, 3] = np.linalg.solve(intrinsic, projection[:, 3])  # the right one of a pair stands aside
        from_lidar, lens = turned @ from_lidar, None
    else:
        intrinsic = np.asarray(info.k, np.float64).reshape(3, 3)
        _check_calibrated(name, intrinsic, "k")
        try:
            lens = Lens.of(str(info.distortion_model), info.d)
        except ConfigError as error:
            raise ConfigError(f"camera '{name}': {error}") from error
    intrinsic, size = _of_the_image(info, intrinsic)
    return CameraModel(name, *size, intrinsic, from_lidar, lens)


def _rectifying(name: str, info: Any) -> NDArray[np.float64]:
    """(3, 3) rotation of a rectified camera."""
    rotation = np.asarray(info.r, np.float64).reshape(3, 3)
    with np.errstate(all="ignore"):
        turns = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)  # of NaN it is not
    if not turns:
        raise ConfigError(
            f"camera '{name}' is not rectified: its CameraInfo has r = {_rounded(rotation)}, which is "
            "no rotation; calibrate it, or take its raw images"
        )
    return rotation


def _check_calibrated(name: str, intrinsic: NDArray[np.float64], field: str) -> None:
    upper = np.array_equal(intrinsic[[1, 2, 2], [0, 0, 1]], [0, 0, 0])
    if (
        not np.isfinite(intrinsic).all()
        or intrinsic[0, 0] <= 0
        or intrinsic[1, 1] <= 0
        or not upper
        or intrinsic[2, 2] != 1
    ):
        raise ConfigError(
            f"camera '{name}' is not calibrated: its CameraInfo has {field} = {_rounded(intrinsic)}; "
            "calibrate it, or leave it out"
        )


def _rounded(matrix: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in matrix.ravel()]


def _of_the_image(info: Any, intrinsic: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """The intrinsic of the images of the region of interest, binned, and their width and height."""
    roi = info.roi
    whole = (int(info.width), int(info.height))
    size = np.array([roi.width or whole[0], roi.height or whole[1]])
    binning = np.array([max(int(info.binning_x), 1), max(int(info.binning_y), 1)])
    found = intrinsic.copy()
    # Pixel centres are whole numbers, so edges are at halves.
    found[:2, 2] = (found[:2, 2] + 0.5 - [roi.x_offset, roi.y_offset]) / binning - 0.5
    found[[0, 1], [0, 1]] /= binning
    found[0, 1] /= binning[0]
    width, height = size // binning
    return found, (int(width), int(height))
