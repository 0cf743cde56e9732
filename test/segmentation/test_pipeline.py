import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.resources import find_model, label_map, translation
from xmodelkd_ros.segmentation.decision import decide
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

ROAD, BUILDING = 4, 9


def sweep(count, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-30, -30, -2], [30, 30, 3], (count, 3)).astype(np.float32)
    return PointCloud(xyz, rng.uniform(0, 255, count).astype(np.float32))


@pytest.fixture(scope="module")
def pipeline(height_model):
    return SegmentationPipeline.load(height_model)


@pytest.mark.parametrize("count", [0, 1, 1999, 2000, 2001, 6500])
def test_labels_every_point_for_any_cloud_size(pipeline, count):
    cloud = sweep(count)
    result = pipeline.segment(cloud)
    assert len(result.segmentation) == count
    np.testing.assert_array_equal(result.segmentation.label, np.where(cloud.xyz[:, 2] > 0, BUILDING, ROAD))
    assert result.invalid == 0


def test_points_without_position_get_255_and_do_not_affect_others(pipeline):
    cloud = sweep(50)
    xyz = cloud.xyz.copy()
    xyz[[3, 7, 20]] = [[np.nan, 0, 0], [0, 0, 0], [np.inf, -np.inf, 1]]
    result = pipeline.segment(PointCloud(xyz, cloud.intensity))
    segmentation = result.segmentation
    bad = np.isin(np.arange(50), [3, 7, 20])
    assert result.invalid == 3
    assert (segmentation.label[bad] == IGNORE).all()
    assert (segmentation.probability[bad] == 0).all()
    assert np.isnan(segmentation.entropy[bad]).all()
    np.testing.assert_array_equal(segmentation.label[~bad], np.where(xyz[~bad, 2] > 0, BUILDING, ROAD))
    assert np.isfinite(segmentation.entropy[~bad]).all()


def test_probability_and_entropy_by_definition():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (13, 200)).astype(np.float32)
    labels = label_map("drive13")
    segmentation = decide(logits, np.ones(200, bool), 1.7, labels)
    p = np.exp(logits.astype(np.float64) / 1.7)
    p /= p.sum(0)
    np.testing.assert_array_equal(segmentation.label, logits.argmax(0))
    np.testing.assert_allclose(segmentation.probability, p.max(0), rtol=1e-5)
    np.testing.assert_allclose(segmentation.entropy, -(p * np.log(p)).sum(0) / np.log(13), rtol=1e-4, atol=1e-6)


def test_merged_classes_sum_their_probabilities():
    labels = label_map("drive13")
    logits = np.log(np.full((13, 1), 1e-9, np.float32))
    logits[[0, 4, 5, 6], 0] = np.log([0.4, 0.2, 0.2, 0.2])
    into = translation(labels, label_map("autoware"))
    segmentation = decide(logits, np.ones(1, bool), 1.0, labels, into)
    assert segmentation.label[0] == 8  # FLAT_SURFACE, though car is the likeliest single class
    assert segmentation.probability[0] == pytest.approx(0.6, rel=1e-4)
    assert segmentation.entropy[0] == pytest.approx(-(0.6 * np.log(0.6) + 0.4 * np.log(0.4)) / np.log(12), rel=1e-3)


def test_summed_probability_is_at_most_1():
    labels = label_map("drive13")
    logits = np.random.default_rng(0).normal(0, 30, (13, 100_000)).astype(np.float32)
    into = translation(labels, label_map("autoware"))
    assert decide(logits, np.ones(100_000, bool), 0.9, labels, into).probability.max() == 1


def test_class_without_counterpart_gives_no_label():
    """The next best class would be wrong, and its entropy would look certain."""
    labels = label_map("drive13")
    logits = np.zeros((13, 2), np.float32)
    logits[labels.names.index("terrain"), 0] = logits[labels.names.index("car"), 1] = 12.0
    into = translation(labels, label_map("pandaset9"))
    found = decide(logits, np.ones(2, bool), 1.0, labels, into)
    assert found.label.tolist() == [IGNORE, into.target.id_of("car")]
    assert found.probability[0] == 0 and np.isnan(found.entropy[0])


@pytest.mark.parametrize("into", ["native", "autoware"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite_logits_give_no_label(bad, into):
    """fp16 or damaged networks output such logits; the label must not be the first class with a NaN probability."""
    labels = label_map("drive13")
    logits = np.zeros((13, 4), np.float32)
    logits[9], logits[3, 1], logits[:, 2] = 5.0, bad, -np.inf
    table = None if into == "native" else translation(labels, label_map("autoware"))
    found = decide(logits, np.ones(4, bool), 1.0, labels, table)
    assert found.label.tolist() == [9, IGNORE, IGNORE, 9]  # building, and Autoware's structure
    assert found.probability[1:3].tolist() == [0, 0] and (found.probability[[0, 3]] > 0.9).all()
    assert np.isnan(found.entropy).tolist() == [False, True, True, False]


def test_missing_intensity_is_an_error(pipeline):
    assert pipeline.needs_intensity
    with pytest.raises(CloudError, match="missing_intensity"):
        pipeline.segment(PointCloud(sweep(5).xyz))


def test_uses_sensor_file(height_model):
    sensor = SensorSpec("fewer beams", (10.0, 0.0, -10.0), intensity_range=(0.0, 1.0))
    cloud = sweep(300)
    result = SegmentationPipeline.load(height_model, sensor=sensor).segment(cloud)
    np.testing.assert_array_equal(result.segmentation.label, np.where(cloud.xyz[:, 2] > 0, BUILDING, ROAD))


def test_box_and_minimum_range_of_the_sensor_file_make_points_invalid_and_leave_the_range_image(height_model):
    box = (-5.0, -4.0, -3.0, 6.0, 4.0, 3.0)
    sensor = SensorSpec("with a vehicle", (10.0, 0.0, -10.0), ego_box=box, min_range_m=8.0)
    pipeline = SegmentationPipeline.load(height_model, sensor=sensor)
    cloud = sweep(3000)
    own = ((cloud.xyz >= box[:3]) & (cloud.xyz <= box[3:])).all(axis=1) | (np.linalg.norm(cloud.xyz, axis=1) < 8)
    result = pipeline.segment(cloud)
    found = result.segmentation
    assert own.sum() > 30 and result.invalid == own.sum()
    np.testing.assert_array_equal(found.label == IGNORE, own)
    np.testing.assert_array_equal(pipeline.usable(cloud.xyz), ~own)
    assert (found.probability[own] == 0).all() and np.isnan(found.entropy[own]).all()
    kept = pipeline.segment(PointCloud(cloud.xyz[~own], cloud.intensity[~own])).segmentation
    np.testing.assert_array_equal(found.label[~own], kept.label)
    assert (
        SegmentationPipeline.load(height_model, sensor=sensor, min_range_m=1.0).usable(cloud.xyz).sum() > (~own).sum()
    )


def test_points_of_the_vehicle_do_not_change_the_labels_of_others(pandaset):
    pytest.importorskip("pandas")
    from training.datasets.pandaset import PandaSetSequence

    cloud = PandaSetSequence(pandaset).cloud(0)
    near = np.linalg.norm(cloud.xyz, axis=1) < 2
    sensor = SensorSpec(
        "with a vehicle",
        SegmentationPipeline.load(find_model("student")).spec.projection.beam_elevations_deg,
        ego_box=(-3.0, -1.2, -2.5, 3.0, 1.2, 1.0),
    )
    shipped = SegmentationPipeline.load(find_model("student"), sensor=sensor)
    kept = shipped.usable(cloud.xyz)
    assert (~kept[near]).sum() > 0
    whole = shipped.segment(cloud).segmentation
    part = shipped.segment(PointCloud(cloud.xyz[kept], cloud.intensity[kept])).segmentation
    np.testing.assert_array_equal(whole.label[kept], part.label)
    assert (whole.label[~kept] == IGNORE).all()


def test_stages_are_timed(pipeline):
    stages = pipeline.segment(sweep(100)).stages_ms
    assert list(stages) == ["project", "normalize", "infer", "decide"]
    assert all(ms > 0 for ms in stages.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_invalid_intensity_does_not_spread_through_network(value):
    """Convolutions of the shipped student would spread it."""
    shipped = SegmentationPipeline.load(find_model("student"))
    cloud = sweep(20_000)
    changed = cloud.intensity.copy()
    changed[100] = value
    before = shipped.segment(cloud).segmentation
    after = shipped.segment(PointCloud(cloud.xyz, changed)).segmentation
    assert np.isfinite(after.probability).all()
    assert np.count_nonzero(before.label != after.label) < 100


@pytest.mark.parametrize("distance", [1e4, 1e18])
def test_point_beyond_lidar_range_does_not_spread_through_network(distance):
    shipped = SegmentationPipeline.load(find_model("student"), "onnxruntime")
    cloud = sweep(20_000)
    xyz = cloud.xyz.copy()
    xyz[100] = np.array([1.0, 0.0, 0.25]) * distance  # above all others, so that nothing stands before it
    before = shipped.segment(cloud).segmentation
    found = shipped.segment(PointCloud(xyz, cloud.intensity))
    assert (found.segmentation.label[100], found.invalid) == (IGNORE, 1)
    assert np.count_nonzero(before.label != found.segmentation.label) < 100
