"""The LiDAR of recorded training sweeps, estimated as at run time or given by the source."""

import numpy as np
import pytest

from test.street import street
from training.config.data import SourceConfig
from training.data.sensors import recorded_sensor
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, SensorError
from xmodelkd_ros.segmentation.auto_sensor import SWEEPS, AutoSensor


def test_recorded_drive_has_the_sensor_that_the_node_estimates():
    clouds = [street(x=0.8 * k, seed=k, pitch=7) for k in range(SWEEPS + 3)]
    auto = AutoSensor()
    for cloud in clouds:
        estimated = auto.of(cloud)
    sensor = recorded_sensor("drive", clouds)
    for name in ("beam_elevations_deg", "height_m", "roll_deg", "pitch_deg", "ground_intensity"):
        assert getattr(sensor, name) == getattr(estimated, name), name


def test_source_may_name_its_sensor():
    clouds = [street(x=0.8 * k, seed=k, beams=(15, -15, 16)) for k in range(3)]
    sensor = recorded_sensor("drive", clouds, "VLP-16")
    assert sensor.name == "VLP-16" and sensor.height_m == pytest.approx(1.8, abs=0.05)
    assert recorded_sensor("drive", clouds, "none") is None
    with pytest.raises(SensorError, match="no sensor 'VLP-17'"):
        recorded_sensor("drive", clouds, "VLP-17")
    assert recorded_sensor("drive", [PointCloud(np.zeros((9, 3), np.float32))]) is None


def test_generated_drives_have_sensors_of_their_own():
    assert SourceConfig("bag", "a.mcap", sensor="VLP-16").sensor == "VLP-16"
    with pytest.raises(ConfigError, match=r"sensor .*auto with seeds"):
        SourceConfig("world", seeds=(0, 2), sensor="VLP-16")
