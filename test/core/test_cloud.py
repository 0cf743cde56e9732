import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import CloudError


def test_width_defaults_to_points_per_row():
    assert PointCloud(np.zeros((6, 3), np.float32)).width == 6
    assert PointCloud(np.zeros((6, 3), np.float32), height=2).width == 3
    assert len(PointCloud(np.zeros((0, 3), np.float32), height=0, width=0)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"xyz": np.zeros((5, 2), np.float32)}, "xyz has shape"),
        ({"xyz": np.zeros((5, 3), np.float32), "height": 2}, "height x width"),
        ({"xyz": np.zeros((5, 3), np.float32), "intensity": np.zeros(4, np.float32)}, "intensity has shape"),
        ({"xyz": np.zeros((5, 3), np.float32), "ring": np.zeros((5, 1), np.uint8)}, "ring has shape"),
    ],
)
def test_shapes_are_checked(arguments, message):
    with pytest.raises(CloudError, match=message):
        PointCloud(**arguments)


def test_segmentation_arrays_must_have_equal_lengths():
    with pytest.raises(CloudError, match="must have one shape"):
        Segmentation(np.zeros(3, np.uint8), np.zeros(3, np.float32), np.zeros(2, np.float32))
