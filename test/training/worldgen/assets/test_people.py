from __future__ import annotations

import numpy as np
import pytest

from training.worldgen.assets.people import PHASES, STRIDE, person, standing
from training.worldgen.mesh import LABELS

SEEDS = range(30)


def _size(mesh):
    return np.ptp(mesh.vertices, axis=0)


def test_people_have_realistic_size_and_few_triangles():
    heights = []
    for seed in SEEDS:
        shapes = person(np.random.default_rng(seed))
        heights.append(float(shapes[0].vertices[:, 2].max()))
        for mesh in shapes:
            assert len(mesh) < 300
            assert set(mesh.label) == {LABELS.id_of("person")}
            assert abs(mesh.vertices[:, 2].min()) < 0.04
            assert 0.2 < _size(mesh)[1] < 1.25 and _size(mesh)[0] < 1.4
    assert 1.0 < min(heights) < 1.5 < np.median(heights) < 1.85 and max(heights) < 2.5


def test_stride_has_eight_shapes_with_same_texture():
    shapes = person(np.random.default_rng(3))
    assert len(shapes) == PHASES
    for mesh in shapes[1:]:
        assert np.array_equal(mesh.texture, shapes[0].texture)
        assert np.array_equal(mesh.triangles, shapes[0].triangles)
        assert not np.array_equal(mesh.vertices, shapes[0].vertices)


def _soles(mesh):
    """Mean x of what touches the ground, left and right."""
    low = mesh.vertices[mesh.vertices[:, 2] < 0.02]
    return low[low[:, 1] > 0, 0], low[low[:, 1] < 0, 0]


def test_supporting_foot_does_not_slide():
    """From one shape to the next it moves back by an eighth of a stride, as far as the person moves on."""
    shapes = person(np.random.default_rng(5))
    height = 1.71
    left = [_soles(shapes[k])[0].mean() for k in (1, 2, 3)]
    steps = np.diff(left)
    assert steps == pytest.approx([-STRIDE * height / PHASES] * 2, rel=0.2)


def test_legs_swing_in_opposite_phase():
    shapes = person(np.random.default_rng(5))
    extent = [float(np.ptp(m.vertices[m.vertices[:, 2] < 0.1][:, 0])) for m in shapes]
    assert max(extent) > 1.6 * min(extent)
    mirrored = shapes[4].vertices[shapes[4].vertices[:, 2] < 0.1] * (1, -1, 1)
    first = shapes[0].vertices[shapes[0].vertices[:, 2] < 0.1]
    assert mirrored[:, 0].mean() == pytest.approx(first[:, 0].mean(), abs=0.02)


def test_standing_people_have_feet_on_ground():
    for seed in SEEDS:
        mesh = standing(np.random.default_rng(seed))
        assert abs(mesh.vertices[:, 2].min()) < 0.04
        assert len(mesh) < 300 and set(mesh.label) == {LABELS.id_of("person")}


@pytest.mark.parametrize("make", (lambda rng: person(rng)[2], standing))
def test_same_seed_gives_same_bytes(make):
    first, again, other = (make(np.random.default_rng(seed)) for seed in (8, 8, 9))
    assert first.vertices.tobytes() == again.vertices.tobytes()
    assert first.material.tobytes() == again.material.tobytes()
    assert first.vertices.tobytes() != other.vertices.tobytes()


def test_clothes_and_accessories_vary():
    materials = [frozenset(standing(np.random.default_rng(seed)).material.tolist()) for seed in SEEDS]
    assert len(set(materials)) > 15
    assert len({len(standing(np.random.default_rng(seed))) for seed in SEEDS}) > 4
