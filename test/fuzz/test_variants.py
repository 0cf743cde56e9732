"""Planted faults of the package: the targets that compare variants of one input find each of them."""

import dataclasses
import sys

import numpy as np
import pytest

from test.fuzz.mutation import Mutator
from test.fuzz.oracle import FAILED, run_input
from test.fuzz.target import load_target
from test.fuzz.targets import TARGETS

for _library in ("mcap", "onnx", "rclpy", "sensor_msgs", "rosbags", "pandas"):
    pytest.importorskip(_library)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured through /proc")

INPUTS = 60


def without_ring(found):
    return lambda *arguments: dataclasses.replace(found(*arguments), ring=None)


def swapped_axes(found):
    def decode(*arguments):
        cloud = found(*arguments)
        return dataclasses.replace(cloud, xyz=cloud.xyz[:, [1, 0, 2]])

    return decode


class Lossy:
    """A bag reader that loses the last message, and says nothing."""

    def __init__(self, path):
        self._reader = self.original(path)

    def __enter__(self):
        self._reader.__enter__()
        return self

    def __exit__(self, *arguments):
        self._reader.__exit__(*arguments)

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def raw(self):
        return list(self._reader.raw())[:-1]


def lossy(reader):
    return type("LossyReader", (Lossy,), {"original": reader})


def without_tilt(model):
    class Untilted(model):
        @classmethod
        def from_coefficients(cls, name, coefficients):
            return model.from_coefficients(name, np.asarray(coefficients)[:12])

    return Untilted


def without_notes(sweeps):
    return lambda *arguments: (sweeps(*arguments)[0], "")


def sorted_points(sweeps):
    return lambda *arguments: ([(xyz[::-1], labels) for xyz, labels in sweeps(*arguments)[0]], "")


def other_order(decode):
    return lambda message: decode(message)[:, :, ::-1]


def without_offsets(times):
    return lambda *arguments: dataclasses.replace(times(*arguments), seconds=np.zeros(96, np.float32), note="")


def fitted_half_a_degree_high(fit):
    def fitted(*arguments):
        sensor = fit(*arguments)
        return dataclasses.replace(sensor, beam_elevations_deg=tuple(b + 0.5 for b in sensor.beam_elevations_deg))

    return fitted


def without_truth_notes(drive):
    return type("SilentDrive", (drive,), {"truth_notes": lambda self: []})


def without_last_camera(draw):
    return lambda view, file: draw(dataclasses.replace(view, cameras=view.cameras[:-1]), file)


class SilentMonitor:
    """A monitor of the input that never warns."""

    def __init__(self, pipeline):
        pass

    def add(self, cloud, result):
        return ()


def of_half_the_stamp(why):
    def faulty(camera, sweep_ns, gap):
        return why(camera, sweep_ns, gap._replace(nearest_ns=gap.nearest_ns // 2, last_ns=gap.last_ns // 2))

    return faulty


class Silent:
    """The module that reports unknown parameters, saying nothing."""

    @staticmethod
    def warnings(node):
        return []


FAULTS = {
    "a ring is not read": ("cloud_layouts", "clouds.to_cloud", without_ring, "the ring is lost"),
    "x and y are exchanged": ("cloud_layouts", "clouds.to_cloud", swapped_axes, "positions differ"),
    "times are not read": ("point_times", "clouds.point_times", without_offsets, "times differ, silently"),
    "RGB is BGR": ("encodings", "images.image_to_array", other_order, "another picture"),
    "tilt is ignored": ("lenses", "images.DistortionModel", without_tilt, "pixels differ from OpenCV's"),
    "a message is lost": ("bag_forms", "bags.BagReader", lossy, "messages are lost"),
    "missing cameras are not noted": ("dataset_parts", "datasets._sweeps", without_notes, "without a note"),
    "a table is read in another order": ("tables", "datasets._sweeps", sorted_points, "another sweep"),
    "beams are fitted too high": ("rings", "lidars.fit_sensor", fitted_half_a_degree_high, "off by more than"),
    "a camera is not drawn": ("report_cameras", "reports.draw_sweep", without_last_camera, "images instead of"),
    "units are not noticed": ("input_units", "inputs.InputMonitor", lambda _: SilentMonitor, "no warning of"),
    "truth is lost silently": ("truth_names", "truths.RecordedDrive", without_truth_notes, "without a note"),
    "a wrong difference is given": ("clocks", "clocks.why_no_image", of_half_the_stamp, "instead of"),
    "slashes count": ("frame_names", "xmodelkd_ros.node.loaded_models.frame_name", lambda _: str, "already there"),
    "misspelt names are ignored": ("parameter_files", "nodes.unknown_parameters", lambda _: Silent, "misspelt as"),
}
"""Target, name in ``test.fuzz.variants`` or of the package, what replaces it, and text of the failure."""


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(fault, monkeypatch):
    name, place, faulty, why = FAULTS[fault]
    module, _, attribute = (place if place.startswith("xmodelkd_ros") else f"test.fuzz.variants.{place}").rpartition(
        "."
    )
    with load_target(TARGETS[name].path) as target:
        monkeypatch.setattr(sys.modules[module], attribute, faulty(getattr(sys.modules[module], attribute)))
        for number in range(INPUTS):
            value, size = target.generate(Mutator.of(name, 0, number))
            outcome = run_input(target, value, size, number)
            if outcome.kind == FAILED and why in outcome.why:
                return
    pytest.fail(f"{fault} was not found by {INPUTS} inputs of {name}")


def test_every_target_of_variants_has_a_planted_fault():
    variants = {name for name, entry in TARGETS.items() if ".variants." in entry.path}
    assert variants == {name for name, *_ in FAULTS.values()}
