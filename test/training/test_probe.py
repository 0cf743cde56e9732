"""The probe on a made-up street whose answer is known, and on real frames."""

import json
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from training import probe  # noqa: E402
from training.data.sweeps import GUARD_DEG, SECTORS, Sweep  # noqa: E402
from xmodelkd_ros.core.camera import CameraModel  # noqa: E402
from xmodelkd_ros.core.cloud import PointCloud  # noqa: E402
from xmodelkd_ros.core.errors import ConfigError  # noqa: E402
from xmodelkd_ros.core.labels import IGNORE  # noqa: E402
from xmodelkd_ros.core.transforms import inverse  # noqa: E402
from xmodelkd_ros.resources import label_map  # noqa: E402

NINE = label_map("pandaset9")
CAR, ROAD, VEGETATION = (NINE.id_of(name) for name in ("car", "road", "vegetation"))
HEIGHT_M = 2.0
GREEN, GREY = (40, 120, 30), (110, 110, 110)
OPTICAL = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)


def camera(name, yaw_deg, width=640):
    """Looks forward, turned to the left, where the LiDAR is."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    intrinsic = np.array([[width / 2, 0, width / 2 - 0.5], [0, width / 2, width * 0.3 - 0.5], [0, 0, 1]])
    return CameraModel(name, width, int(width * 0.6), intrinsic, inverse(turned @ OPTICAL))


@dataclass
class Picture:
    camera: CameraModel
    picture: np.ndarray
    stamp_ns: int = 0

    def pixels(self):
        return self.picture


class Lawn:
    """Flat ground, green and grey squares of 2 m at random: only cameras can tell what is grass."""

    name = "lawn"
    label_map = label_map("drive13")
    intensity_range = (0.0, 255.0)
    cameras = (camera("front", 0, 480), camera("left", 80, 800))
    base_from_lidar = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, HEIGHT_M], [0, 0, 0, 1]])

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.green = self.rng.random((40, 40)) < 0.4

    def __len__(self):
        return 2

    def is_green(self, x, y):
        cells = [np.clip((v / 2 + 20).astype(int), 0, 39) for v in (x, y)]
        return self.green[tuple(cells)]

    def cloud(self, index):
        rng = np.random.default_rng(index)
        xy = rng.uniform(-14, 14, (6000, 2))
        xyz = np.column_stack([xy, np.full(len(xy), -HEIGHT_M)]).astype(np.float32)
        xyz[:5] = np.nan
        return PointCloud(xyz, rng.uniform(0, 255, len(xyz)).astype(np.float32))

    def labels(self, index):
        x, y = np.nan_to_num(self.cloud(index).xyz[:, :2]).T
        names = np.where(self.is_green(x, y), "vegetation", "road")
        return np.array([self.label_map.id_of(n) for n in ("road", "vegetation")], np.uint8)[(names != "road") * 1]

    def stamp_ns(self, index):
        return 0

    def time_s(self, index):
        return np.zeros(len(self.cloud(index).xyz), np.float32)

    def poses(self, index, times_s):
        return np.tile(np.eye(4), (len(times_s), 1, 1))

    def world_from_lidar(self, index):
        return np.eye(4)

    def images(self, index):
        return [Picture(c, self.painted(c)) for c in self.cameras]

    def painted(self, model):
        """Each pixel shows the ground that its ray meets."""
        v, u = np.mgrid[: model.height, : model.width].astype(float)
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(model.intrinsic).T
        rays = rays @ model.from_lidar[:3, :3]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = (np.nan_to_num(-HEIGHT_M * rays[..., k] / rays[..., 2], posinf=99, neginf=-99) for k in (0, 1))
        picture = np.where(self.is_green(x, y)[..., None], GREEN, GREY).astype(np.uint8)
        picture[rays[..., 2] >= -1e-9] = (180, 200, 240)
        return picture


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(probe, "SEEDS", (0, 1))
    monkeypatch.setattr(probe, "_STEPS", 100)


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("efficientnet_lite_pytorch")
    return probe.ImageEncoder()


def test_only_cameras_tell_grass_from_road_on_a_flat_lawn(quick, encoder):
    comparisons = probe.probe_drives([(Lawn(0), [0]), (Lawn(1), [0, 1])], [(Lawn(2), range(1))], "unseen drives")
    assert list(comparisons) == ["unseen drives", "unseen sectors"]
    sectors = comparisons["unseen sectors"]["features"]
    assert sectors["mean colour alone"]["miou"]["mean"] > 0.95 > 0.5 > sectors["geometry"]["miou"]["mean"]
    result = comparisons["unseen drives"]
    miou = {name: entry["miou"]["mean"] for name, entry in result["features"].items()}
    for with_camera in ("geometry + intensity + mean colour", "mean colour alone"):
        assert miou[with_camera] > 0.95
    assert miou["geometry + intensity + image features"] > 0.85
    assert miou["geometry"] < 0.45 and miou[probe.BASELINE] < 0.45
    # Two cameras cover about 170 of 360 degrees, and all that they see is road or vegetation.
    assert 1000 < result["test_points"]["road"] + result["test_points"]["vegetation"] < 4500
    assert {n for n, count in result["test_points"].items() if count} == {"road", "vegetation"}
    entry = result["features"]["mean colour alone"]
    assert entry["iou"]["car"] is None
    assert entry["gain"]["seeds"] == pytest.approx(
        np.subtract(entry["miou"]["seeds"], result["features"][probe.BASELINE]["miou"]["seeds"])
    )


def test_training_points_are_balanced_and_test_points_are_not(encoder, monkeypatch):
    monkeypatch.setattr(probe, "_POINTS_PER_SWEEP", 1800)
    balanced = probe.collect([(Lawn(0), [0])], True, "")
    assert np.bincount(balanced.sweep.labels)[[ROAD, VEGETATION]].tolist() == [200, 200]
    natural = probe.collect([(Lawn(0), [0])], False, "")
    road, vegetation = np.bincount(natural.sweep.labels)[[ROAD, VEGETATION]]
    assert road + vegetation == 1800 and road > 1.2 * vegetation
    again = probe.collect([(Lawn(0), [0])], False, "")
    for kind, values in natural.features.items():
        np.testing.assert_array_equal(values, again.features[kind])
        assert np.isfinite(values).all()


def test_without_cameras_the_probe_says_so(encoder):
    blind = Lawn(0)
    blind.cameras = ()
    with pytest.raises(ConfigError, match="share 0 classes of 200 points that a camera sees"):
        probe.probe_drives([(blind, [0])], [(blind, [1])], "unseen drives")


def test_without_intensity_the_probe_says_so(encoder, monkeypatch):
    dark = Lawn(0)
    monkeypatch.setattr(dark, "cloud", lambda index: PointCloud(Lawn(0).cloud(index).xyz))
    with pytest.raises(ConfigError, match="lawn has no intensity"):
        probe.collect([(dark, [0])], True, "")


def test_the_same_seed_gives_the_same_labels(encoder, quick):
    points = probe.collect([(Lawn(0), [0])], True, "")
    first, second, other = (probe.classify((points, points), ("geometry",), seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def points_at(positions, labels):
    xyz = np.zeros((len(labels), 3), np.float32)
    features = {"geometry": np.asarray(positions, np.float32)[:, None]}
    return probe.Points(Sweep(PointCloud(xyz), np.asarray(labels, np.uint8)), np.asarray(positions), features)


def test_hidden_sectors_are_tested_and_neither_they_nor_their_borders_are_trained_on():
    positions = np.random.default_rng(0).uniform(0, SECTORS, 20_000)
    points = points_at(positions, np.where(np.arange(20_000) % 2, CAR, ROAD))
    train, test = (side.table(["geometry"])[0].numpy()[:, 0] for side in probe.sector_fold(points, points, (0, 1)))
    guard = GUARD_DEG * SECTORS / 360
    assert train.min() > 2 + guard - 1e-3 and train.max() < SECTORS - guard + 1e-3
    assert test.max() < 2 and test.min() >= 0
    assert len(train) == pytest.approx(20_000 * (4 - 2 * guard) / SECTORS, rel=0.03)
    assert len(test) == pytest.approx(20_000 / 3, rel=0.03)


def test_classes_that_one_side_lacks_are_left_out():
    def points(**counts):
        labels = np.concatenate([np.full(count, NINE.id_of(name)) for name, count in counts.items()])
        return points_at(np.zeros(len(labels)), labels)

    train, test = probe.shared_classes(points(car=500, road=300, person=100), points(car=250, road=400, building=900))
    for side in (train, test):
        assert set(np.unique(side.sweep.labels)) == {CAR, ROAD, IGNORE}
    assert (train.sweep.labels != IGNORE).sum() == 800
    with pytest.raises(ConfigError, match="share 1 classes of 200 points"):
        probe.shared_classes(points(car=500, person=500), points(car=250, person=199))


def flat(size=20.0, step=0.2):
    x, y = (a.ravel() for a in np.meshgrid(*[np.arange(-size / 2, size / 2, step)] * 2))
    return np.column_stack([x, y, np.zeros_like(x)])


def shape(queries, cloud):
    """The eight numbers of each scale: (N, S, 8)."""
    return probe.neighbourhood_features(queries, cloud, np.zeros(len(cloud)))[0].reshape(len(queries), -1, 8)


def test_neighbourhoods_tell_planes_walls_and_poles_apart():
    ground, wall = flat(), flat()[:, [2, 0, 1]] + [0, 0, 10]
    pole = np.column_stack([np.full(100, 5.0), np.full(100, 5.0), np.linspace(0, 8, 100)])
    for cloud, query, linear, normal, main in (
        (ground, [0, 0, 0], False, 1, 0),
        (wall, [0, 0, 10], False, 0, None),
        (pole, [5, 5, 4], True, None, 1),
    ):
        linearity, planarity, scatter, normal_z, main_z = shape(np.array([query]), cloud)[0, :, :5].T
        assert (linearity > 0.95).all() if linear else (planarity > 0.6).all()
        assert (scatter < 0.01).all()
        assert normal is None or normal_z == pytest.approx(normal, abs=0.01)
        assert main is None or main_z == pytest.approx(main, abs=0.01)
    above, below, farthest = shape(np.array([[5, 5, 4.0]]), pole)[0, :, 5:].T
    assert (above > 0.4).all() and (below > 0.4).all()
    assert (np.diff(farthest) > 0).all()


def test_shape_does_not_change_when_the_scene_turns_or_moves():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(400, 3)) * [6, 3, 2]
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # quarter turns keep the voxels
    moved = cloud @ turn.T + [30, 12, 6]
    np.testing.assert_allclose(shape(moved[:50], moved), shape(cloud[:50], cloud), atol=1e-6)


def test_intensity_around_a_point_is_that_of_its_side():
    cloud = flat(20, 0.1)
    bright = (cloud[:, 0] > 0).astype(float)
    _, around = probe.neighbourhood_features(np.array([[-5.0, 0, 0], [5, 0, 0], [0.02, 0, 0]]), cloud, bright)
    mean, deviation = around.reshape(3, -1, 2).transpose(2, 0, 1)
    assert (mean[0] == 0).all() and (mean[1] == 1).all() and (deviation[:2] == 0).all()
    assert (deviation[2] > 0.2).all()


def test_height_is_above_the_slope_not_above_the_roof():
    ground = flat(40, 0.25)
    ground[:, 2] = 0.1 * ground[:, 0]
    roof = np.add(flat(4, 0.1), [5, 5, 0])
    roof[:, 2] = 0.1 * roof[:, 0] + 1.6
    under = (np.abs(ground[:, :2] - 5) < 2).all(axis=1)
    cloud = np.vstack([ground[~under], roof])
    height = cloud[:, 2] - probe.ground_height(cloud, cloud)
    inner = (np.abs(cloud[:, :2]) < 15).all(axis=1)
    on_ground = inner & (np.arange(len(cloud)) < (~under).sum())
    assert np.abs(height[on_ground]).max() < 0.2
    assert height[-len(roof) :] == pytest.approx(1.6, abs=0.2)


def test_mean_colour_is_that_of_the_five_pixels_around():
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15] = (255, 0, 0)
    picture[:, 15:] = (0, 0, 255)
    red, blue, border = probe.mean_colour(picture, np.array([[5, 5], [25.3, 12], [14.4, 10]]))
    assert red == pytest.approx([1, 0, 0, 1, 0, 1], abs=1e-3)
    assert blue == pytest.approx([0, 0, 1, np.cos(np.radians(240)), np.sin(np.radians(240)), 1], abs=1e-3)
    assert border[:3] == pytest.approx([0.6, 0, 0.4], abs=5e-3)
    grey = probe.mean_colour(np.full((8, 8, 3), 100, np.uint8), np.array([[-0.4, 7.4]]))
    assert grey[0] == pytest.approx([100 / 255] * 3 + [0, 0, 100 / 255], abs=1e-3)


def test_image_features_are_those_of_the_pixel_that_is_asked_for(encoder):
    """A small change of the picture moves the features of its own place more than those beside it, on every side."""
    rng = np.random.default_rng(0)
    plain = cv2.resize(rng.integers(60, 200, (24, 40, 3), dtype=np.uint8), (640, 384))
    centre, blocks = np.array([321.0, 187.0]), np.cumsum([0, 24, 40, 112])
    painted = plain.copy()
    painted[184:191, 318:325] = (255, 255, 0)
    for stride, first, end in zip((4, 8, 16), blocks[:-1], blocks[1:], strict=True):
        beside = centre + 1.5 * stride * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        change = encoder.sample(painted, beside) - encoder.sample(plain, beside)
        middle, *others = np.linalg.norm(change[:, first:end], axis=1)
        assert middle > 1.2 * max(others), stride
        assert max(others) < 4 * min(others), stride


PANDASET_METRICS = {"command", "train", "test", "label_set", "baseline", "comparisons"}


def test_pandaset_from_the_command_line(pandaset, encoder, tmp_path, capsys, quick, monkeypatch):
    monkeypatch.setattr(probe, "_STEPS", 50)
    words = ["pandaset", str(pandaset), "--train", "0:5", "--test", "58:59", "--out", str(tmp_path)]
    assert probe.main(words) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics) == PANDASET_METRICS
    assert metrics["command"] == " ".join(["python -m training.probe", *words])
    assert set(metrics["comparisons"]) == {"unseen frames", "unseen sectors"}
    for comparison in metrics["comparisons"].values():
        miou = {name: entry["miou"]["mean"] for name, entry in comparison["features"].items()}
        assert miou["geometry"] > 0.1
        assert miou["geometry + intensity + image features"] > miou[probe.BASELINE]
        assert comparison["test_points"]["building"] > 1000
    # 20,000 points of one frame of 106,000, a few of them in classes that are left out.
    assert 15_000 < sum(metrics["comparisons"]["unseen frames"]["test_points"].values()) <= 20_000
    tables = (tmp_path / "probe.md").read_text()
    assert tables.count("| geometry + intensity |") == 2
    assert capsys.readouterr().out.count("| geometry + intensity |") == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["pandaset", "/nowhere", "--train", "0:4", "--test", "5:6"], "/nowhere is not a PandaSet sequence"),
        (["pandaset", "{pandaset}", "--train", "4", "--test", "5:6"], "--train is '4', but must be A:B"),
        (["pandaset", "{pandaset}", "--train", "0:4", "--test", "66:99"], "has no frame 98; it has 0 to 66"),
        (["world", "/nowhere", "--test", "/nowhere"], "/nowhere holds no generated drive"),
        (["world", "{choose}", "--test", "{choose}"], "is a drive to choose with, not to train"),
        (["world", "{train}", "--test", "{choose}", "{train}"], "is among the drives to train on and among those"),
    ],
)
def test_mistakes_are_one_line(pandaset, generated, drives, encoder, tmp_path, capsys, words, complaint):
    words = [w.format(pandaset=pandaset, choose=generated.folder, train=drives.folder) for w in words]
    assert probe.main([*words, "--out", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and complaint in lines[0]
