import copy
import json
from dataclasses import replace

import pytest

from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.model_spec import DataSource, ImageBranchSpec, ModelSpec, NetworkFile, TensorSpec, sha256
from xmodelkd_ros.core.normalization import ChannelSpec
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.resources import label_map


def make_spec(digest="0" * 64):
    return ModelSpec(
        name="tiny",
        role="student",
        files={"fp32": NetworkFile("model.onnx", digest)},
        inputs=(
            TensorSpec("image", (1, 3, 2, 8), "float32"),
            TensorSpec("points", (16, 2), "float32"),
            TensorSpec("pixel", (16,), "int32"),
        ),
        outputs=(TensorSpec("logits", (13, 16), "float32"),),
        projection=ProjectionSpec((2.0, -2.0), 8),
        channels=(ChannelSpec("z", 0.0, 1.0), ChannelSpec("range", 10.0, 5.0)),
        intensity_range=(0.0, 255.0),
        labels=label_map("drive13"),
        temperature=1.5,
        training_data=(DataSource("none", "CC0", "nobody"),),
        metrics={"parity": {"labels_equal": 1.0}},
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"network")
    make_spec(sha256(tmp_path / "model.onnx")).write(tmp_path)
    return tmp_path


def test_student_spec_file_round_trip(folder):
    spec = ModelSpec.read(folder)
    assert spec == make_spec(sha256(folder / "model.onnx"))
    assert spec.max_points == 16
    assert spec.network_path(folder, "fp32") == folder / "model.onnx"


def make_teacher(digest="0" * 64):
    branch = ImageBranchSpec(
        {"fp32": NetworkFile("image_branch.onnx", digest)},
        TensorSpec("picture", (1, 3, 32, 64), "float32"),
        TensorSpec("features", (1, 5, 8, 16), "float32"),
        cameras=3,
    )
    more = (
        TensorSpec("maps", (1, 5, 24, 16), "float32"),
        TensorSpec("places", (2, 2, 8, 2), "float32"),
        TensorSpec("seen", (2, 2, 8), "float32"),
    )
    student = make_spec()
    return replace(student, role="teacher", inputs=(*student.inputs, *more), image_branch=branch)


def test_teacher_spec_file_round_trip(tmp_path):
    (tmp_path / "image_branch.onnx").write_bytes(b"images")
    teacher = make_teacher(sha256(tmp_path / "image_branch.onnx"))
    teacher.write(tmp_path)
    assert ModelSpec.read(tmp_path) == teacher
    path = teacher.network_path(tmp_path, "fp32", image_branch=True)
    assert path == tmp_path / "image_branch.onnx"
    path.write_bytes(b"others")
    with pytest.raises(ModelError, match=r"image_branch\.files\.fp32\.sha256"):
        teacher.network_path(tmp_path, "fp32", image_branch=True)


def test_image_branch_must_match_the_role():
    with pytest.raises(ModelError, match=r"image_branch is .* set for a teacher and absent for a student"):
        replace(make_spec(), role="teacher")
    with pytest.raises(ModelError, match=r"image_branch is .* set for a teacher and absent for a student"):
        replace(make_teacher(), role="student")
    with pytest.raises(ModelError, match=r"inputs: expected .*maps"):
        replace(make_teacher(), inputs=make_spec().inputs)


def change(folder, path, value):
    data = json.loads((folder / "model.json").read_text())
    at = data
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    (folder / "model.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (["schema"], 99, "schema"),
        (["role"], "oracle", "role"),
        (["temperature"], None, "temperature is missing"),
        (["temperature"], -1, "temperature"),
        (["temperature"], "warm", "temperature"),
        (["temperature"], 1e-30, "temperature is 1e-30, but must be between"),
        (["temperature"], 1e30, "temperature is 1e.30, but must be between"),
        (["intensity_range"], [-1e30, 1e30], "intensity_range is .* within"),
        (["channels", 0, "std"], 1e-30, "std of 'z'"),
        (["files"], {}, "files"),
        (["channels"], [{"name": "z", "mean": 0}], "channels"),
        (["channels", 0, "name"], "smell", "smell"),
        (["projection", "width"], 9, "inputs.*image"),
        (["projection", "azimuth_range_deg"], [0, 360], "azimuth_range_deg"),
        (["projection", "beam_elevations_deg"], [1, 2], "beam_elevations_deg"),
        (["inputs", 1, "dtype"], "float16", "points"),
        (["outputs", 0, "shape"], [12, 16], "logits"),
        (["labels", "classes", 0, "id"], 12, "id 12"),
        (["intensity_range"], [5], "intensity_range"),
        (["training_data"], [], "training_data"),
        pytest.param(["projection", "width"], 10**400, "inputs.*image", id="width"),
        pytest.param(["temperature"], 10**400, "temperature cannot be used: OverflowError", id="temperature"),
        (["channels", 0, "mean"], float("nan"), "NaN is not a finite number"),
        (["projection", "min_range_m"], float("inf"), "Infinity is not a finite number"),
        (["statistics"], {"sweeps": 5, "command": ""}, "statistics cannot be used: KeyError"),
        (["statistics"], {"sweeps": 0, "command": "", "quantiles": {}}, "statistics cannot be used: .*sweeps is 0"),
        (
            ["statistics"],
            {"sweeps": 5, "command": "", "quantiles": {"fill": [0.2, 0.1, 0.3]}},
            "statistics .*ascending",
        ),
        (["statistics"], {"sweeps": 5, "command": "", "quantiles": {"fill": [0.1, 0.2]}}, "statistics cannot be used"),
        (["statistics"], {"sweeps": 5, "command": "", "quantiles": {"smell": [1, 2, 3]}}, "quantiles is 'smell'"),
    ],
)
def test_errors_name_the_invalid_field(folder, path, value, field):
    change(folder, path, value)
    with pytest.raises(ModelError, match=field):
        ModelSpec.read(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '"model"', "[" * 100_000])
def test_rejects_files_that_are_not_a_spec(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        ModelSpec.read(folder)


def test_verifies_network_files(folder):
    spec = ModelSpec.read(folder)
    with pytest.raises(ModelError, match="no int8 network"):
        spec.network_path(folder, "int8")
    for name in ("no\0file", "x" * 300, "."):
        change(folder, ["files", "fp32", "file"], name)
        with pytest.raises(ModelError, match=r"cannot read network file|leaves the model folder"):
            ModelSpec.read(folder).network_path(folder, "fp32")
    (folder / "model.onnx").write_bytes(b"another network")
    with pytest.raises(ModelError, match="sha256"):
        spec.network_path(folder, "fp32")
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match="export the model again"):
        spec.network_path(folder, "fp32")


def test_accepts_linked_network_files(folder, tmp_path):
    """As made by ``colcon build --symlink-install``."""
    network = (folder / "model.onnx").rename(tmp_path / "somewhere.onnx")
    (folder / "model.onnx").symlink_to(network)
    assert ModelSpec.read(folder).network_path(folder, "fp32") == folder / "model.onnx"


def test_rejects_paths_outside_the_model_folder(folder):
    change(folder, ["files", "fp32", "file"], "../model.onnx")
    with pytest.raises(ModelError, match="leaves the model folder"):
        ModelSpec.read(folder).network_path(folder, "fp32")


def test_rejects_networks_with_other_tensors():
    spec = make_spec()
    spec.check_network(spec.inputs, spec.outputs)
    narrow = replace(spec.inputs[0], shape=(1, 3, 2, 4))
    with pytest.raises(ModelError, match="image"):
        spec.check_network((narrow, *spec.inputs[1:]), spec.outputs)
    with pytest.raises(ModelError, match="extra"):
        spec.check_network((*spec.inputs, TensorSpec("extra", (1,), "float32")), spec.outputs)
    assert copy.deepcopy(spec) == spec
