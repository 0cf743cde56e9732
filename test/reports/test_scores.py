import json

import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.reports.scores import Scores, percentiles, write_metrics
from xmodelkd_ros.resources import label_map

DRIVE13, PANDASET9 = label_map("drive13"), label_map("pandaset9")
CAR, TRUCK, TWO_WHEELER, ROAD, OTHER_STATIC, HAZARD, SIGN = 0, 1, 2, 4, 10, 11, 12


def cloud_of(count):
    return PointCloud(np.ones((count, 3), np.float32))


def labels(*values, probability=0.9):
    label = np.array(values, np.uint8)
    return Segmentation(label, np.full(len(label), probability, np.float32), np.zeros(len(label), np.float32))


def add(scores, truth, predicted, **options):
    scores.add(cloud_of(len(truth)), labels(*predicted), np.array(truth, np.uint8), **options)


def test_accumulates_one_matrix_and_counts_unlabelled_points_as_misses():
    scores = Scores(DRIVE13)
    add(scores, [CAR, CAR, ROAD, IGNORE], [CAR, IGNORE, ROAD, CAR])
    add(scores, [ROAD, ROAD], [ROAD, CAR])
    iou = scores.confusion.iou()
    assert iou["car"] == pytest.approx(1 / 3)
    assert iou["road"] == pytest.approx(2 / 3)
    assert scores.confusion.miou() == pytest.approx(0.5)


def test_merged_classes_are_not_confused():
    scores = Scores(DRIVE13, PANDASET9)
    add(scores, [OTHER_STATIC, HAZARD, SIGN, CAR], [SIGN, OTHER_STATIC, HAZARD, TWO_WHEELER])
    assert scores.confusion.iou()["other_static"] == 1.0
    assert scores.confusion.iou()["car"] == 0.0, "two_wheeler does not exist there: a miss"


def test_ignores_points_whose_class_is_not_in_scored_set():
    scores = Scores(DRIVE13, PANDASET9)
    add(scores, [TWO_WHEELER, CAR], [CAR, CAR])
    assert scores.confusion.iou()["car"] == 1.0
    assert sum(scores.confusion.points.values()) == 1


def test_finer_truth_is_scored_untranslated():
    kitti = label_map("semantickitti19")
    scores = Scores(DRIVE13, kitti)
    bicyclist, motorcycle = kitti.id_of("bicyclist"), kitti.id_of("motorcycle")
    add(
        scores, [TWO_WHEELER, CAR], [TWO_WHEELER, CAR], scored_truth=np.array([bicyclist, kitti.id_of("car")], np.uint8)
    )
    add(scores, [TWO_WHEELER], [TWO_WHEELER], scored_truth=np.array([motorcycle], np.uint8))
    iou = scores.confusion.iou()
    assert (iou["car"], iou["bicyclist"], iou["motorcycle"]) == (1.0, 0.0, 0.5)
    assert scores.confusion.miou() == pytest.approx(1.5 / 19)
    assert [s.miou for s in scores.sweeps] == [0.5, 1.0], "of a sweep, over the classes that occur in it"


def test_sweep_without_labels_counts_as_misses():
    scores = Scores(DRIVE13)
    add(scores, [CAR, CAR], [CAR, CAR], latency_ms=5.0)
    scores.add_missing(np.array([CAR, CAR], np.uint8))
    assert scores.confusion.miou() == 0.5
    assert [s.latency_ms for s in scores.sweeps] == [5.0, None]
    assert scores.latencies_ms == [5.0]


def test_metrics_have_documented_keys(height_model, tmp_path):
    spec = ModelSpec.read(height_model)
    scores = Scores(spec.labels)
    add(scores, [CAR, ROAD], [CAR, ROAD], stages_ms={"infer": 3.0, "decide": 1.0})
    metrics = scores.metrics(spec, "onnxruntime", "fp32")
    assert set(metrics) == {
        "miou", "iou", "points", "sweeps", "latency_ms", "stages_ms", "ece", "modes", "model", "backend", "precision",
        "label_set",
    }  # fmt: skip
    assert metrics["points"]["car"] == 1
    assert metrics["iou"]["truck"] is None
    assert metrics["sweeps"] == {"input": 1, "output": 1}
    assert metrics["latency_ms"] == {"p50": 4.0, "p99": 4.0}
    assert metrics["stages_ms"]["infer"] == {"p50": 3.0, "p99": 3.0}
    assert metrics["modes"] == {"student": 1, "teacher": 0}
    assert metrics["model"] == {"name": "height", "sha256": spec.files["fp32"].sha256}
    assert metrics["ece"] == pytest.approx(0.1, abs=1e-6), "always right at probability 0.9"
    assert json.loads(write_metrics(tmp_path / "new", metrics).read_text()) == metrics


def test_no_scores_without_truth(height_model):
    spec = ModelSpec.read(height_model)
    scores = Scores(spec.labels)
    scores.add(cloud_of(2), labels(CAR, CAR))
    metrics = scores.metrics(spec, "onnxruntime", "fp32")
    assert metrics["miou"] is None
    assert metrics["ece"] is None
    assert metrics["sweeps"] == {"input": 1, "output": 1}
    assert metrics["latency_ms"] == {"p50": None, "p99": None}


@pytest.mark.parametrize(
    "unusable",
    [np.nan, np.inf, 0.0, 0.2, 900.0],
    ids=["NaN", "infinite", "zero: missing returns", "the vehicle's own returns", "beyond 1 km"],
)
def test_sweep_counts_as_output_whatever_its_driver_sends_without_a_return(unusable):
    xyz, label = np.ones((300, 3), np.float32), np.full(300, CAR, np.uint8)
    xyz[200:], label[200:] = unusable, IGNORE
    for unlabelled, output in ((0, 1), (2, 1), (3, 0)):
        label[:unlabelled] = IGNORE
        scores = Scores(DRIVE13)
        scores.add(PointCloud(xyz), Segmentation(label, np.ones(300, np.float32), np.ones(300, np.float32)))
        assert scores.sweeps_out == output


def test_agreement_in_scored_set(height_model):
    scores = Scores(DRIVE13, PANDASET9)
    one, other = (np.array(v, np.uint8) for v in ([CAR, CAR, SIGN, ROAD], [CAR, TRUCK, HAZARD, ROAD]))
    scores.add_other(one, other)
    agreement = scores.metrics(ModelSpec.read(height_model), "onnxruntime", "fp32")["agreement"]
    assert agreement["equal"] == 0.75
    assert agreement["classes"]["car"] == 0.5
    assert agreement["classes"]["other_static"] == 1.0
    assert agreement["classes"]["person"] is None


def test_different_lengths_are_an_error():
    with pytest.raises(CloudError, match="3 points, 2 labels"):
        Scores(DRIVE13).add(cloud_of(3), labels(CAR, CAR))


def test_percentiles_of_known_series():
    assert percentiles(range(101)) == {"p50": 50.0, "p99": 99.0}
    assert percentiles([]) == {"p50": None, "p99": None}
