import numpy as np
import pytest

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.training_statistics import TrainingStatistics, output_statistics, sample_index
from xmodelkd_ros.resources import label_map

LEARNT = TrainingStatistics.of(
    [{"entropy": entropy, "fill": 0.9, "share.car": 0.0} for entropy in np.linspace(0.1, 0.3, 101)], "test"
)


def test_quantiles_over_the_sweeps():
    assert LEARNT.sweeps == 101
    assert LEARNT.quantiles["entropy"] == (0.102, 0.2, 0.298)
    assert LEARNT.quantiles["fill"] == (0.9, 0.9, 0.9)


@pytest.mark.parametrize(
    ("sweep", "names"),
    [
        ({"entropy": 0.2, "fill": 0.9, "share.car": 0.0}, []),
        ({"entropy": 0.33}, []),
        ({"entropy": 0.35}, ["entropy"]),
        ({"entropy": 0.05, "fill": 0.5}, ["fill", "entropy"]),
        ({"share.car": 0.02}, []),
        ({"share.car": 0.2}, ["share.car"]),
        ({"share.unknown": 0.9}, []),
        ({}, []),
    ],
)
def test_excesses_are_sorted_and_allow_some_distance(sweep, names):
    assert [excess.name for excess in LEARNT.excesses([sweep])] == names


def test_mean_over_the_sweeps_decides():
    assert not LEARNT.excesses([{"entropy": 0.4}, {"entropy": 0.2}])
    (excess,) = LEARNT.excesses([{"entropy": 0.5}, {"entropy": 0.4}])
    assert (excess.value, excess.low, excess.high) == (pytest.approx(0.45), 0.102, 0.298)


def test_output_statistics_of_labelled_points():
    labels = label_map("drive13")
    label = np.array([0, 0, 4, 255], np.uint8)
    sample = Segmentation(label, np.ones(4, np.float32), np.array([0.1, 0.2, 0.3, np.nan], np.float32))
    found = output_statistics(sample, labels)
    assert found["entropy"] == pytest.approx(0.2)
    assert (found["share.car"], found["share.road"], found["share.person"]) == pytest.approx((2 / 3, 1 / 3, 0))
    assert output_statistics(Segmentation.unlabelled(3), labels) == {}


@pytest.mark.parametrize("count", [0, 5, 1024, 131072])
def test_sample_has_points_of_every_beam(count):
    index = sample_index(count)
    assert len(index) == min(count, 1024)
    if count == 131072:
        assert all(len(np.unique(index % beams)) == beams for beams in (16, 32, 64, 128))
