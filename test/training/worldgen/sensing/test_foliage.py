from dataclasses import replace

import numpy as np
import pytest

from training.worldgen.assets import greenery, woodland
from training.worldgen.materials import GROUPS, MATERIALS, material_id
from training.worldgen.mesh import LABELS, merge, pose, quads
from training.worldgen.sensing.lidar import scan
from training.worldgen.sensing.products import PANDAR64
from training.worldgen.sensing.surfaces import Appearance
from training.worldgen.tracing import Tracer

VEGETATION, BUILDING = LABELS.id_of("vegetation"), LABELS.id_of("building")
REAL_SPREAD_M = (0.1, 1.1)
"""Median spread of range within a degree of foliage: 0.18 m (12 to 25 m away) and 0.26 m (25 to 50 m) in PandaSet's
clipped bushes, 0.4 to 0.9 m above 2.5 m in the winter trees of ``astyx_vlp16``."""


def returns_of(mesh, at=(15.0, 0.0), seed=0):
    """Ranges, labels, cells (1 x 1.2 degrees) and heights of returns from an object before a wall on flat ground."""
    ground = quads([[(-90, -90, 0), (90, -90, 0), (90, 90, 0), (-90, 90, 0)]], "asphalt", "road")
    wall = quads([[(60, 40, 0), (60, -40, 0), (60, -40, 30), (60, 40, 30)]], "concrete", "building")
    tracer = Tracer(merge([ground, wall, mesh.placed(*at)]))
    rng = np.random.default_rng(seed)
    lidar = replace(PANDAR64, beam_gain_spread=0.0)
    sweep = scan(lidar, tracer, Appearance.sample(rng), lambda t: np.repeat(pose(0, 0, 2)[None], len(t), 0), 1.0, rng)
    points = sweep.points(lidar)
    distance = np.linalg.norm(points, axis=1)
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    elevation = np.degrees(np.arcsin(points[:, 2] / distance))
    cell = np.floor(azimuth) * 1000 + np.floor(elevation / 1.2)
    return distance, sweep.label[sweep.mask], cell, points[:, 2] + 2


def spreads(distance, cell):
    """Standard deviation of range in each cell with at least four returns."""
    order = np.argsort(cell, kind="stable")
    groups = np.split(distance[order], np.flatnonzero(np.diff(cell[order])) + 1)
    return [group.std() for group in groups if len(group) > 3]


@pytest.mark.parametrize(
    ("maker", "lowest"),
    [
        (greenery.bush, 0.0),
        (greenery.tree, 2.5),
        (woodland.big_tree, 4.0),
        (woodland.wood_tree, 2.5),
        (lambda rng: woodland.thicket(rng, 8.0), 0.0),
    ],
    ids=["bush", "tree", "big_tree", "wood_tree", "thicket"],
)
def test_returns_scatter_in_foliage_as_in_real_sweeps(maker, lowest):
    found = []
    for seed in range(8):
        distance, label, cell, height = returns_of(maker(np.random.default_rng(seed)), seed=seed)
        leafy = (label == VEGETATION) & (height > lowest)
        found += spreads(distance[leafy], cell[leafy])
    assert REAL_SPREAD_M[0] < np.median(found) < REAL_SPREAD_M[1]


def test_some_pulses_pass_through_crown():
    passed = []
    for seed in range(6):
        mesh = woodland.big_tree(np.random.default_rng(seed))
        _, label, cell, _ = returns_of(mesh, seed=seed)
        crown = np.isin(cell, cell[label == VEGETATION])
        passed.append(float((label[crown] == BUILDING).mean()))
    assert 0.02 < np.mean(passed) < 0.7


def test_dense_hedge_stops_nearly_all_pulses():
    _, label, cell, _ = returns_of(greenery.hedge(np.random.default_rng(3), 12.0), at=(8.0, 0.0))
    inside = np.isin(cell, [c for c in np.unique(cell[label == VEGETATION]) if (cell == c).sum() > 3])
    assert (label[inside] == VEGETATION).mean() > 0.5


def test_materials_without_foliage_are_unaffected():
    drawn = Appearance.sample(np.random.default_rng(0))
    foliage = {*GROUPS["foliage"][1], "lawn", "meadow", "dry_meadow", "weeds"}
    for name in MATERIALS:
        assert (drawn.depth[material_id(name)] > 0) == (name in foliage), name
        assert drawn.permeable[material_id(name)] == 0 or name in foliage


def test_reflectance_relative_to_road_differs_between_scenes():
    """Medians over PandaSet, KITTI, nuScenes and a VLP-32: vegetation 1.4 to 9.5 times as bright as the road."""
    drawn = [Appearance.sample(np.random.default_rng(seed)).reflectances[:, 0] for seed in range(300)]
    road = np.array([row[material_id("asphalt")] for row in drawn])
    for name, low, high in (("leaves", 1.4, 9.5), ("paving_slabs", 1.1, 3.5), ("plaster", 1.7, 6.6)):
        ratio = np.array([row[material_id(name)] for row in drawn]) / road
        assert low * 0.5 < np.percentile(ratio, 5) < low * 1.6
        assert high * 0.45 < np.percentile(ratio, 95) < high * 1.6
