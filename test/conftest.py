"""Fixtures shared by several test folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import xmodelkd_ros.opencv  # noqa: F401  # before any test imports cv2, to set its pixel limit
from test.expected_skips import pytest_configure  # noqa: F401
from xmodelkd_ros import resources
from xmodelkd_ros.core.model_spec import DataSource, ImageBranchSpec, ModelSpec, NetworkFile, TensorSpec, sha256
from xmodelkd_ros.core.normalization import ChannelSpec
from xmodelkd_ros.core.projection import BY_BEAM, BY_ELEVATION, ProjectionSpec
from xmodelkd_ros.resources import label_map

pytest_plugins = ["test.example_drive"]

HEIGHT, WIDTH, POINTS = 16, 128, 2000
FEATURES = (4, 8)
PANDASET = Path(__file__).resolve().parents[2] / "shared" / "pandaset" / "002"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Cache folder of the tests and the programs they start, in place of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def installed_first(monkeypatch):
    """The order of folders in a process that has not imported training."""
    monkeypatch.setattr(resources, "_source_tree_first", False)


@pytest.fixture(scope="session")
def pandaset():
    """Folder of the PandaSet sequence, if present."""
    if not PANDASET.is_dir():
        pytest.skip(f"needs the PandaSet sequence in {PANDASET}")
    return PANDASET


def write_height_model(folder):
    """Write a small student model: points above the sensor are building, below it road.

    It uses every input, so that a pipeline that mixes them up fails.
    """
    _write_model(folder, _height_nodes("logits"), [], "student")
    return folder


def write_any_lidar_model(folder):
    """Write a small student for any LiDAR: points more than half a metre above the ground are building, others road."""
    channels = (
        ChannelSpec("height", 0.5, 1.0),
        ChannelSpec("log_range", 0.0, 1.0),
        ChannelSpec("relative_intensity", 0.0, 1.0),
        ChannelSpec("has_intensity", 0.0, 1.0),
    )
    _write_model(folder, _height_nodes("logits"), [], "student", channels=channels, rows=BY_BEAM)
    return folder


def write_light_model(folder, cameras=3):
    """Write a small teacher model: points that are bright in an image are cars, others as in the height model."""
    from onnx import helper

    size = (cameras * FEATURES[0], FEATURES[1])
    nodes = [
        *_height_nodes("height_logits"),
        helper.make_node("Reshape", ["places", "grid_shape"], ["grid"]),
        helper.make_node("GridSample", ["maps", "grid"], ["sampled"], mode="bilinear", padding_mode="border"),
        helper.make_node("Reshape", ["sampled", "views_shape"], ["brightness"]),
        helper.make_node("Reshape", ["seen", "views_shape"], ["mask"]),
        helper.make_node("Mul", ["brightness", "mask"], ["visible_brightness"]),
        helper.make_node("ReduceMax", ["visible_brightness"], ["brightest"], axes=[0], keepdims=0),
        helper.make_node("Gather", ["brightest", "pixel"], ["point_brightness"]),
        helper.make_node("Mul", ["is_car", "point_brightness"], ["car_logits"]),
        helper.make_node("Add", ["height_logits", "car_logits"], ["logits"]),
    ]
    is_car = np.zeros((13, 1), np.float32)
    is_car[0] = 1.0
    constants = {
        "grid_shape": np.array([1, 2 * HEIGHT, WIDTH, 2], np.int64),
        "views_shape": np.array([2, HEIGHT * WIDTH], np.int64),
        "is_car": is_car,
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_image_branch(folder / "image_branch.onnx")
    branch = ImageBranchSpec(
        {"fp32": NetworkFile("image_branch.onnx", sha256(folder / "image_branch.onnx"))},
        TensorSpec("picture", (1, 3, 4 * FEATURES[0], 4 * FEATURES[1]), "float32"),
        TensorSpec("features", (1, 1, *FEATURES), "float32"),
        cameras,
    )
    image_inputs = [
        TensorSpec("maps", (1, 1, *size), "float32"),
        TensorSpec("places", (2, HEIGHT, WIDTH, 2), "float32"),
        TensorSpec("seen", (2, HEIGHT, WIDTH), "float32"),
    ]
    _write_model(folder, nodes, image_inputs, "teacher", constants, branch)
    return folder


def _height_nodes(output):
    from onnx import helper

    return [
        helper.make_node("Reshape", ["image", "flat"], ["flat_image"]),
        helper.make_node("Gather", ["flat_image", "pixel"], ["pixel_channels"], axis=1),  # (3, P)
        helper.make_node("ReduceSum", ["pixel_channels"], ["channel_sum"], keepdims=1),
        helper.make_node("Mul", ["channel_sum", "zero"], ["zeros"]),
        helper.make_node("Transpose", ["points"], ["point_columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["weights", "point_columns"], ["point_logits"]),
        helper.make_node("Add", ["point_logits", "zeros"], [output]),
    ]


def _write_image_branch(path):
    """Write an image branch whose output is the mean of each patch of 4 by 4 pixels."""
    from onnx import helper

    nodes = [
        helper.make_node("AveragePool", ["picture"], ["patches"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMean", ["patches"], ["features"], axes=[1], keepdims=1),
    ]
    inputs = [TensorSpec("picture", (1, 3, 4 * FEATURES[0], 4 * FEATURES[1]), "float32")]
    _write_network(path, nodes, inputs, TensorSpec("features", (1, 1, *FEATURES), "float32"), {})


def _write_network(path, nodes, inputs, output, constants):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    types = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}
    values = [helper.make_tensor_value_info(t.name, types[t.dtype], list(t.shape)) for t in (*inputs, output)]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, values[:-1], values[-1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


_CHANNELS = (ChannelSpec("z", 0.0, 1.0), ChannelSpec("intensity", 0.0, 255.0))


def _write_model(
    folder,
    nodes,
    extra_inputs,
    role,
    extra_constants=None,
    image_branch=None,
    channels=_CHANNELS,
    rows=BY_ELEVATION,
):
    weights = np.zeros((13, len(channels)), np.float32)
    weights[9, 0], weights[4, 0] = 4.0, -4.0
    constants = {
        "weights": weights,
        "flat": np.array([len(channels) + 1, HEIGHT * WIDTH], np.int64),
        "zero": np.zeros(1, np.float32),
        **(extra_constants or {}),
    }
    inputs = (
        TensorSpec("image", (1, len(channels) + 1, HEIGHT, WIDTH), "float32"),
        TensorSpec("points", (POINTS, len(channels)), "float32"),
        TensorSpec("pixel", (POINTS,), "int32"),
        *extra_inputs,
    )
    output = TensorSpec("logits", (13, POINTS), "float32")
    folder.mkdir(parents=True, exist_ok=True)
    _write_network(folder / "model.onnx", nodes, inputs, output, constants)
    spec = ModelSpec(
        name=folder.name,
        role=role,
        files={"fp32": NetworkFile("model.onnx", sha256(folder / "model.onnx"))},
        inputs=inputs,
        outputs=(output,),
        projection=ProjectionSpec(tuple(np.linspace(15, -25, HEIGHT).tolist()), WIDTH, rows=rows),
        channels=channels,
        intensity_range=(0.0, 255.0),
        labels=label_map("drive13"),
        temperature=1.0,
        training_data=(DataSource("none", "CC0-1.0", "written by a test"),),
        image_branch=image_branch,
    )
    spec.write(folder)


@pytest.fixture(scope="session")
def light_model(tmp_path_factory):
    """Folder of a small teacher model (see :func:`write_light_model`)."""
    pytest.importorskip("onnx")
    return write_light_model(tmp_path_factory.mktemp("models") / "light")


@pytest.fixture(scope="session")
def height_model(tmp_path_factory):
    """Folder of a small student model (see :func:`write_height_model`)."""
    pytest.importorskip("onnx")
    return write_height_model(tmp_path_factory.mktemp("models") / "height")


@pytest.fixture(scope="session")
def car_model(height_model, tmp_path_factory):
    """Folder of the height model with other names of classes: points above the sensor are car."""
    folder = Path(shutil.copytree(height_model, tmp_path_factory.mktemp("models") / "cars"))
    spec = json.loads((folder / "model.json").read_text())
    names = {"building": "car", "car": "building"}
    for one in spec["labels"]["classes"]:
        one["name"] = names.get(one["name"], one["name"])
        one["aliases"] = []
    (folder / "model.json").write_text(json.dumps(spec))
    return folder


@pytest.fixture(scope="session")
def any_lidar_model(tmp_path_factory):
    """Folder of a small student for any LiDAR (see :func:`write_any_lidar_model`)."""
    pytest.importorskip("onnx")
    return write_any_lidar_model(tmp_path_factory.mktemp("models") / "any_lidar")
