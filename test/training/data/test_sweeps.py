from dataclasses import replace

import numpy as np
import pytest

from training.config.training import AugmentConfig
from training.data.crops import CropDataset, CropSize, CropSource
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, hide_sectors
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.sensor import SensorSpec

CHANNELS = ("z", "range", "sqrt_intensity")


@pytest.fixture(scope="module")
def sweep():
    """A noisy cylinder scanned by 16 beams at 1000 azimuths; the label is the azimuth sector."""
    rng = np.random.default_rng(0)
    elevation, azimuth = (a.ravel() for a in np.meshgrid(np.linspace(10, -20, 16), np.linspace(-179.9, 180, 1000)))
    elevation, azimuth = np.radians(elevation), np.radians(azimuth)
    radius = rng.uniform(9, 11, elevation.size)
    flat = radius * np.cos(elevation)
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), radius * np.sin(elevation)], axis=1)
    labels = np.floor((np.degrees(azimuth) % 360) / 60).astype(np.uint8)
    return Sweep(PointCloud(xyz.astype(np.float32), rng.uniform(0, 255, len(xyz)).astype(np.float32)), labels)


@pytest.fixture(scope="module")
def spec(sweep):
    return InputSpec.fit([sweep], 256, CHANNELS, (0.0, 255.0))


def test_input_spec_is_fitted_to_the_sweeps(sweep, spec):
    assert spec.projection.beam_elevations_deg == pytest.approx(np.linspace(10, -20, 16), abs=0.02)
    points = WholeSweeps([sweep], spec)[0]["points"][0]
    assert points.mean(axis=0) == pytest.approx(0, abs=1e-3)
    assert points.std(axis=0) == pytest.approx(1, abs=1e-3)
    assert InputSpec.from_dict(spec.to_dict()) == spec


def test_points_without_finite_coordinates_are_left_out(sweep, spec):
    xyz = sweep.cloud.xyz.copy()
    xyz[:3] = [[np.nan] * 3, [0] * 3, [np.inf] * 3]
    batch = WholeSweeps([Sweep(PointCloud(xyz, sweep.cloud.intensity), sweep.labels)], spec)[0]
    assert batch["points"].shape == (1, len(xyz) - 3, 3)
    assert np.isfinite(batch["points"]).all() and np.isfinite(batch["image"]).all()
    assert np.array_equal(batch["labels"][0], sweep.labels[3:])


def test_only_rows_by_beam_follow_the_lidar_of_the_sweep(sweep, spec):
    """As at run time: models with rows by elevation take every sweep as it is, unless a sensor file is given."""
    other = replace(sweep, sensor=SensorSpec("other", tuple(np.linspace(20.0, -40.0, 16))))
    by_beam = replace(spec, projection=replace(spec.projection, rows="beams"))
    for inputs, same in ((spec, True), (by_beam, False)):
        first, second = (WholeSweeps([one], inputs)[0] for one in (sweep, other))
        assert np.array_equal(first["pixel"], second["pixel"]) == same


def test_hides_labels_of_sectors_and_their_guard(sweep):
    azimuth = np.degrees(np.arctan2(sweep.cloud.xyz[:, 1], sweep.cloud.xyz[:, 0])) % 360
    hidden = hide_sectors(sweep, azimuth / 60, (0, 1))
    inside = (azimuth < 130) | (azimuth > 350)
    assert (hidden.labels[inside] == 255).mean() > 0.999
    outside = (azimuth > 130.5) & (azimuth < 349.5)
    assert np.array_equal(hidden.labels[outside], sweep.labels[outside])


def make_crops(sweep, spec, augmentation=None, **changes):
    settings = {"length": 10, "seed": 0, **changes}
    source = CropSource([sweep, sweep], "world")
    return CropDataset([source], spec, augmentation or AugmentConfig(), CropSize(64, 32, 300), **settings)


def test_crops_are_adjacent_windows_of_the_range_image(sweep, spec):
    crops = make_crops(sweep, spec)[3]
    assert crops["image"].shape == (4, 4, 16, 64 + 2 * 32)
    assert crops["points"].shape == (4, 300, 3)
    assert crops["pixel"].shape == crops["labels"].shape == (4, 300)
    assert crops["pixel"].dtype == np.int32 and crops["pixel"].min() >= 0 and crops["pixel"].max() < 16 * 64
    for k in range(4):
        margin = crops["image"][(k + 1) % 4][..., :64]
        assert np.array_equal(crops["image"][k][..., -64:], margin), "each crop's margin is part of its neighbour"
        # A point is no nearer than the nearest point of its pixel.
        row, column = np.divmod(crops["pixel"][k], 64)
        nearest = crops["image"][k][:, row, column + 32]
        assert (nearest[3] == 1).all()
        assert (nearest[1] <= crops["points"][k][:, 1] + 0.01).all(), "to the range resolution"
        assert np.mean(np.isclose(nearest[1], crops["points"][k][:, 1])) < 0.9, "includes occluded points"


def test_crops_are_deterministic_for_a_seed(sweep, spec):
    one, two = make_crops(sweep, spec), make_crops(sweep, spec)
    assert all(np.array_equal(one[4][key], two[4][key]) for key in one[4])
    assert not np.array_equal(one[4]["image"], one[5]["image"])
    assert not np.array_equal(one[4]["image"], make_crops(sweep, spec, seed=1)[4]["image"])


def of_class(sweep, label):
    return Sweep(sweep.cloud, np.full(len(sweep.labels), label, np.uint8))


def test_sources_are_drawn_by_share_and_sweeps_uniformly(sweep, spec):
    sources = [
        CropSource([of_class(sweep, 1)], "pandaset", 6.0),
        CropSource([of_class(sweep, 2), of_class(sweep, 3)], "world", 2.0),
    ]
    crops = CropDataset(sources, spec, AugmentConfig(), CropSize(256, 0, 1), length=600, seed=0)
    drawn = np.array([crops[i]["labels"].item() for i in range(len(crops))])
    # Four standard deviations of 600 draws.
    assert np.mean(drawn == 1) == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 600))
    assert np.mean(drawn == 2) == pytest.approx(0.125, abs=4 * np.sqrt(0.125 * 0.875 / 600))


@pytest.mark.parametrize("datasets", [("pandaset", "world", "world"), ("world", "world", "world")])
def test_mixed_sectors_come_from_another_dataset_if_possible(sweep, spec, datasets):
    given = zip((1, 2, 3), datasets, (2, 1, 1), strict=True)
    sources = [CropSource([of_class(sweep, label)], dataset, share) for label, dataset, share in given]
    crops = CropDataset(sources, spec, AugmentConfig(mix=1.0), CropSize(256, 0, 2000), length=60, seed=0)
    pairs = {frozenset(np.unique(crops[index]["labels"]).tolist()) - {255} for index in range(len(crops))}
    real = {frozenset({1, 2}), frozenset({1, 3})}
    assert pairs == real if "pandaset" in datasets else pairs > real


def test_crops_with_few_labels_are_padded(sweep, spec):
    labels = np.full(len(sweep.labels), 255, np.uint8)
    labels[::400] = 2
    few = Sweep(sweep.cloud, labels)
    source = CropSource([few], "world")
    crops = CropDataset([source], spec, AugmentConfig(), CropSize(64, 32, 300), length=2, seed=0)[0]
    assert np.count_nonzero(crops["labels"] == 2) == np.count_nonzero(labels == 2)
    assert set(np.unique(crops["labels"])) == {2, 255}


def test_dropped_beams_are_empty_in_the_crop(sweep, spec):
    masks = [make_crops(sweep, spec, AugmentConfig(drop_rows=0.6))[i]["image"][:, -1] for i in range(8)]
    dark = [np.count_nonzero(~mask.any(axis=(0, 2))) for mask in masks]
    assert max(dark) > 3
