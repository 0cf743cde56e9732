import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodelkd_ros.core.labels import IGNORE, LabelClass, LabelMap
from xmodelkd_ros.core.metrics import CalibrationError, ConfusionMatrix

ABC = LabelMap("abc", (LabelClass(2, "a", (0, 0, 0)), LabelClass(5, "b", (0, 0, 0)), LabelClass(9, "c", (0, 0, 0))))
IDS = st.sampled_from([2, 5, 9, 77, IGNORE])


def test_iou_of_a_worked_example():
    matrix = ConfusionMatrix(ABC)
    matrix.update(np.array([2, 2, 2, 5, 5, IGNORE]), np.array([2, 2, 5, 5, IGNORE, 9]))
    # a: TP 2, FN 1; b: TP 1, FN 1 (255 counts as a miss), FP 1; c does not occur
    assert matrix.iou() == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3), "c": None}
    assert matrix.miou() == pytest.approx(0.5)
    assert matrix.miou(exclude=["b"]) == pytest.approx(2 / 3)
    assert matrix.points == {"a": 3, "b": 2, "c": 0}


def test_mean_over_all_counts_absent_classes_as_zero():
    matrix = ConfusionMatrix(LabelMap("abc", ABC.classes, mean_over_all=True))
    assert matrix.miou() is None
    matrix.update(np.array([2, 2, 5, 5]), np.array([2, 2, 5, 2]))
    assert matrix.iou() == {"a": pytest.approx(2 / 3), "b": 0.5, "c": None}
    assert matrix.miou() == pytest.approx((2 / 3 + 0.5) / 3)
    assert matrix.miou(exclude=["c"]) == matrix.miou(occurring_only=True) == pytest.approx((2 / 3 + 0.5) / 2)


def test_classes_with_few_points_are_left_out_of_the_mean():
    matrix = ConfusionMatrix(LabelMap("abc", ABC.classes, min_points=3))
    matrix.update(np.array([2, 2, 2, 5, 5]), np.array([2, 2, 5, 9, 9]))
    assert matrix.iou() == {"a": pytest.approx(2 / 3), "b": 0.0, "c": None}
    assert matrix.miou() == matrix.miou(occurring_only=True) == pytest.approx(2 / 3)
    assert matrix.miou(exclude=["a"]) is None
    matrix.update(np.array([5]), np.array([5]))
    assert matrix.miou() == pytest.approx((2 / 3 + 1 / 4) / 2)


def test_metrics_without_points_are_none():
    matrix = ConfusionMatrix(ABC)
    matrix.update(np.array([IGNORE]), np.array([2]))
    assert matrix.miou() is None
    assert CalibrationError().value() is None


@given(st.lists(st.tuples(IDS, IDS), max_size=40))
def test_iou_equals_a_set_computation(pairs):
    truth, predicted = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    matrix = ConfusionMatrix(ABC)
    for start in range(0, len(pairs), 7):
        matrix.update(truth[start : start + 7], predicted[start : start + 7])
    known = [i for i, t in enumerate(truth) if t in (2, 5, 9)]
    for c in ABC.classes:
        is_true = {i for i in known if truth[i] == c.id}
        is_predicted = {i for i in known if predicted[i] == c.id}
        expected = len(is_true & is_predicted) / len(is_true | is_predicted) if is_true else None
        assert matrix.iou()[c.name] == (None if expected is None else pytest.approx(expected))


def test_calibration_error_of_a_worked_example():
    error = CalibrationError(bins=10)
    error.update(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 0]), np.array([0.95, 0.95, 0.95, 0.95]))
    error.update(np.array([1, IGNORE]), np.array([1, 1]), np.array([0.55, 0.1]))
    # bin 0.9..1: confidence .95, accuracy .75, 4 points; bin .5...6: .55 against 1, 1 point
    assert error.value() == pytest.approx((4 * 0.20 + 1 * 0.45) / 5)
    np.testing.assert_allclose(error.bins[:, [5, 9]], [[1, 4], [0.55, 3.8], [1, 3]])
    assert error.bins.sum() == pytest.approx(5 + 4.35 + 4), "all other bins are empty"


def test_probability_one_belongs_to_the_last_bin():
    error = CalibrationError()
    error.update(np.array([1]), np.array([1]), np.array([1.0]))
    assert error.value() == pytest.approx(0.0)
