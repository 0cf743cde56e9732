"""Recognition of the intensity scale from values, and whether it is the one that a model expects."""

from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.intensity_scale import recognise

DRIVES = Path(__file__).resolve().parents[3] / "shared" / "drives"
BYTE = (0.0, 255.0)


def street(count=4000, seed=0):
    """Reflectivities of a street, 0 to 1: mostly dark, some retroreflectors."""
    rng = np.random.default_rng(seed)
    values = np.clip(rng.gamma(1.2, 0.06, count), 0, 1)
    values[: count // 200] = 1
    return values.astype(np.float32)


def bytes_of(share):
    return np.rint(share * 255).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (street(), "fraction"),
        (bytes_of(street()) / 255, "fraction"),
        (np.float32(0.67) + street() * np.float32(0.33), "fraction"),  # CARLA: exp(-a d)
        (street() * 100, "percent"),
        (bytes_of(street()), "byte"),
        (np.minimum(np.rint(street() * 400), 100), "byte"),  # Velodyne's diffuse part: as in 0 to 255
        (np.rint(street() * 4095), "wide"),
        (np.rint(street() ** 2 * 65535), "wide"),
        (-60 + street() * 60, "negative"),
        (np.zeros(4000, np.float32), "constant"),
        (np.full(4000, 255, np.float32), "constant"),
        (np.rint(street()), "constant"),  # fractions cast to integers: zeros and a few ones
        (np.full(4000, np.nan, np.float32), "constant"),
        (np.where(np.arange(4000) % 5 == 0, np.nan, bytes_of(street())), "constant"),
        (np.zeros(0, np.float32), "none"),
    ],
    ids=["0..1", "k/255", "CARLA", "0..100", "0..255", "Velodyne", "12 bits", "16 bits", "dB", "zero", "one value",
         "cast to integers", "NaN", "some NaN", "no points"],
)  # fmt: skip
def test_scales_are_recognised(values, kind):
    scale = recognise(values)
    assert scale.kind == kind
    mismatch = scale.mismatch(BYTE)
    assert bool(mismatch) == (kind not in ("byte", "none")), mismatch
    if kind not in ("constant", "none"):
        assert not scale.mismatch(scale.limits), "the scale's own sensor file mends it"


@pytest.mark.parametrize("bright", [3.0, 255.0, 65535.0, 1e9, np.inf, np.nan])
def test_corrupt_bright_points_do_not_hide_a_scale_of_0_to_1(bright):
    values = street()
    values[:3] = bright
    assert recognise(values).kind == "fraction"


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.2, 1.0])
def test_dark_scenes_of_a_sensor_of_0_to_255_fit(share):
    values = bytes_of(street() * share)
    values[:2] = 4095  # two corrupt points
    scale = recognise(values)
    assert scale.kind == "constant" if share == 0.01 and len(np.unique(values)) < 3 else scale.kind == "byte"
    assert not scale.mismatch(BYTE)


def test_sensor_file_for_another_scale_is_noticed():
    assert "0 to 255" in recognise(bytes_of(street())).mismatch((0.0, 1.0))
    assert "0 to 1" in recognise(street()).mismatch((0.0, 100.0))
    assert "more than 8 bits" in recognise(np.rint(street() * 4095)).mismatch((0.0, 1.0))
    assert not recognise(np.rint(street(seed=1) * 4095)).mismatch(recognise(np.rint(street() * 4095)).limits)
    assert not recognise(np.rint(street() * 1500)).mismatch((0.0, 1500.0)), "a darker drive of the same sensor"


def test_message_has_the_numbers_seen():
    assert recognise(street()).mismatch(BYTE) == (
        "intensity has median 0.0538 and 99th percentile 0.3513 (not integers), which looks like a scale of 0 to 1"
    )
    assert recognise(np.zeros(500)).mismatch(BYTE) == "intensity is 0 for all points, so it carries no information"
    assert recognise(np.arange(500) % 2 * 255).mismatch(BYTE).startswith("intensity is 0 or 255 for all points")
    some = np.where(np.arange(4000) % 5 == 0, np.nan, street())
    assert recognise(some).seen == "intensity is NaN or infinite for 20% of the points"
    assert recognise(some).limits == (0.0, 1.0)


@pytest.mark.parametrize(
    ("drive", "kind"),
    [
        ("kitti_hdl64", "fraction"),
        ("labelled_kitti", "fraction"),
        ("astyx_vlp16", "byte"),
        ("labelled_nuscenes", "byte"),
        ("labelled_vlp32", "byte"),
    ],
)
def test_scales_of_real_drives(drive, kind):
    if not DRIVES.is_dir():
        pytest.skip(f"needs the drives in {DRIVES}")
    with BagReader(DRIVES / f"{drive}.mcap") as reader:
        for sweep, _ in zip(RecordedDrive(reader, "", missing_intensity="fill").sweeps(), range(8), strict=False):
            scale = recognise(sweep.cloud.intensity)
            assert (scale.kind, bool(scale.mismatch(BYTE))) == (kind, kind != "byte")
            assert not scale.mismatch(scale.limits)


def test_scale_of_pandaset(pandaset):
    from training.datasets.pandaset import PandaSetSequence

    intensity = PandaSetSequence(pandaset).cloud(56).intensity
    assert not recognise(intensity).mismatch(BYTE)
    assert recognise(intensity / 255).kind == "fraction"
