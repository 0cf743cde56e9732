"""Positions that a model cannot use, and the unit or axes that they suggest."""

from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.core.position_check import suspicious_positions, unusable_reason
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.core.usable_points import usable_mask
from xmodelkd_ros.harness.synthetic_sweep import synthetic_sweep

DRIVES = Path(__file__).resolve().parents[3] / "shared" / "drives"
STREET = synthetic_sweep(ProjectionSpec(tuple(np.linspace(14, -24, 32).tolist()), 512), 4000).xyz


def problems(xyz):
    """All that is said about the points of a sweep."""
    reason = unusable_reason(xyz, usable_mask, 0.5)
    return [*([reason] if reason else []), *suspicious_positions(xyz, usable_mask).values()]


def missing(value, share, xyz=STREET):
    xyz = xyz.copy()
    xyz[: int(share * len(xyz))] = value
    return xyz


@pytest.mark.parametrize(
    ("xyz", "said"),
    [
        (STREET * 1000, "millimetres?"),
        (STREET * 100, "centimetres, or scaled?; publish metres"),
        (STREET * 10, "publish metres"),
        (STREET / 1000, "minimum range 0.5 m; publish metres"),
        (STREET / 100, "nearer than"),
        (np.concatenate([STREET, STREET * 1000]), "millimetres?"),
        (missing(np.nan, 1), "100% are NaN or infinite"),
        (missing(np.inf, 0.97), "97% are NaN or infinite"),
        (missing(0, 1), "100% are at the origin (0, 0, 0)"),
        (missing(np.nan, 0.5, STREET * 1000), "millimetres?"),
        (STREET[:30] * 1000, "millimetres?"),
        (np.full((1, 3), np.nan, np.float32), "NaN"),
        (STREET[:, [1, 2, 0]] * np.float32([-1, -1, 1]), "z not up"),
        (STREET[:, [1, 2, 0]], "z not up"),
        (STREET[:, [2, 1, 0]], "z not up"),
        (STREET + np.float32([4e5, 5e6, 500]), "a map's frame?"),
        (STREET + np.float32([300, 50, 0]), "a map's frame?"),
        (np.concatenate([STREET, 120 * STREET / np.linalg.norm(STREET, axis=1, keepdims=True)]), "same range, 120"),
    ],
    ids=["mm", "cm", "dm", "km", "unit cube", "half in mm", "NaN", "infinite", "zeros", "mm and NaN", "few points",
         "one point", "optical frame", "y up", "x up", "map",
         "near map", "120 m for missing returns"],
)  # fmt: skip
def test_reason_that_the_points_suggest(xyz, said):
    found = problems(xyz.astype(np.float32))
    assert found and said in found[0], found


@pytest.mark.parametrize(
    "xyz",
    [
        STREET,
        STREET[:5],
        missing(0, 0.8),
        missing(np.nan, 0.85),
        missing(2000.0, 0.5),
        missing(3e38, 0.5),
        missing(0.2, 0.3),
        STREET + np.float32([0, 0, 2]),
        STREET[STREET[:, 0] > 0],
        np.zeros((0, 3), np.float32),
    ],
    ids=["street", "five points", "zeros for missing returns", "NaN for the sky", "2 km for missing returns",
         "largest float for missing returns", "own returns", "base_link", "front only", "empty"],
)  # fmt: skip
def test_nothing_is_said_about_good_points(xyz):
    assert not problems(xyz)


@pytest.mark.parametrize("drive", ["kitti_hdl64", "labelled_kitti", "astyx_vlp16", "labelled_nuscenes"])
def test_real_drives(drive):
    if not DRIVES.is_dir():
        pytest.skip(f"needs the drives in {DRIVES}")
    with BagReader(DRIVES / f"{drive}.mcap") as reader:
        for sweep, _ in zip(RecordedDrive(reader, "", missing_intensity="fill").sweeps(), range(4), strict=False):
            xyz = sweep.cloud.xyz
            assert not problems(xyz)
            assert "millimetres?" in problems(xyz * 1000)[0]
            assert "centimetres" in problems(xyz * 100)[0]
            assert "z not up" in problems(xyz[:, [1, 2, 0]])[0]


def test_large_minimum_range_is_the_reason_if_the_unit_is_right():
    reason = unusable_reason(STREET, lambda xyz: usable_mask(xyz, 900), 900)
    assert reason.endswith("nearer than the minimum range 900 m; check min_range")
