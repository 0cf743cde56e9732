"""The LiDAR estimated by a running node: log, ``~/status`` and ``/diagnostics``, over real DDS."""

from dataclasses import replace
from time import sleep

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from test.street import street
from xmodelkd_ros.messages.clouds import MessageTypes, read_field, truth_to_msg
from xmodelkd_ros.segmentation.auto_sensor import SWEEPS, AutoSensor

ROAD, BUILDING = 4, 9
TYPES = MessageTypes(PointCloud2, PointField)


def message(cloud, second, frame="lidar"):
    header = Header(frame_id=frame)
    header.stamp.sec, header.stamp.nanosec = int(second), round(second % 1 * 1e9)
    return truth_to_msg(cloud, np.zeros(len(cloud), np.uint8), header, TYPES)


def final_status(bench, clouds, second):
    """Publish sweeps until the estimate is final; returns the last status."""
    for k in range(600):
        status = bench.outcome(message(clouds[min(k, SWEEPS - 1)], second + 0.1 * k))
        if status.values["sensor"].startswith("estimated"):
            return status
        sleep(0.1)  # as between the sweeps of a LiDAR: the fit has a process of its own, of low priority
    raise AssertionError(status.values["sensor"])


def test_node_estimates_its_lidar_as_the_tools_do_and_again_for_another_one(make_bench, any_lidar_model, capfd):
    bench = make_bench(model=str(any_lidar_model)).start()
    clouds = [replace(street(x=0.8 * k, seed=k, pitch=8), ring=None) for k in range(SWEEPS)]
    first = bench.outcome(message(clouds[0], 1.0))
    assert first.message == "labelled" and first.values["sensor"].startswith("provisional (1 of 10 sweeps): ")
    status = final_status(bench, clouds[1:] + clouds[:1], 1.1)
    offline = AutoSensor()
    for cloud in clouds:
        offline.of(cloud)
    assert status.values["sensor"] == offline.description
    bench.wait(lambda: bench.diagnostics[-1].values["sensor"] == offline.description, "the same in /diagnostics")
    assert bench.diagnostics[-1].values["sensor_pitch_deg"] == f"{offline.sensor.pitch_deg:g}"
    log = [line for line in capfd.readouterr().err.splitlines() if "sensor: estimated from 10 sweeps" in line]
    assert len(log) == 1 and "[INFO]" in log[0]
    labels = read_field(bench.segment(message(clouds[0], 90.0)), "label")
    heights = clouds[0].xyz @ np.float32([-np.sin(np.radians(8)), 0, np.cos(np.radians(8))]) + 1.8
    clear = np.abs(heights - 0.5) > 0.2
    assert np.mean(labels[clear] == np.where(heights > 0.5, BUILDING, ROAD)[clear]) > 0.99

    bench.wait(lambda: len(bench.status) == len(bench.labels), "the status of that sweep")
    looped = bench.outcome(message(clouds[0], 1.0))
    assert looped.values["sensor"] == offline.description, "a looped bag keeps it"
    roof = street(height=3.0, roll=180, beams=(24, -2, 16))
    other = bench.outcome(message(replace(roof, intensity=np.zeros(len(roof), np.float32)), 200.0, "roof_lidar"))
    assert other.values["sensor"].startswith("provisional (1 of 10 sweeps): 16 beams")
    assert "upside down" in other.values["sensor"] and "intensity is 0 for all points" in other.values["sensor"]
    assert "the sweeps are those of another LiDAR" in capfd.readouterr().err
