import numpy as np
import pytest

from training.worldgen.assets import furniture
from training.worldgen.assets.posts import utility_pole
from training.worldgen.materials import material_id
from training.worldgen.mesh import LABELS

WITH_LENGTH = {"guard_rail", "railing", "jersey_barrier"}
HAZARDS = {"cone", "pylon", "debris"}
WITH_SIGNS = {"traffic_sign", "street_name_sign", "direction_sign", "overhead_sign", "traffic_light"}
STATIC, HAZARD, SIGN = (LABELS.id_of(name) for name in ("other_static", "hazard", "traffic_sign"))


def _make(name, seed):
    rng = np.random.default_rng(seed)
    return getattr(furniture, name)(rng, 5.0) if name in WITH_LENGTH else getattr(furniture, name)(rng)


@pytest.mark.parametrize("name", furniture.__all__)
def test_furniture_stands_on_ground_with_its_labels(name):
    allowed = {HAZARD} if name in HAZARDS else {STATIC, SIGN} if name in WITH_SIGNS else {STATIC}
    for seed in range(25):
        mesh = _make(name, seed)
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert np.isfinite(mesh.vertices).all()
        assert set(mesh.label.tolist()) <= allowed
        assert 0 < len(mesh) < 700
        assert -0.06 < low[2] < 0.06
        assert 0.04 < high[2] < 13.0


@pytest.mark.parametrize("name", furniture.__all__)
def test_same_seed_gives_same_bytes_other_seed_differs(name):
    first, second, other = _make(name, 1), _make(name, 1), _make(name, 2)
    assert first.vertices.tobytes() == second.vertices.tobytes()
    assert first.material.tobytes() == second.material.tobytes()
    assert first.vertices.tobytes() != other.vertices.tobytes()


@pytest.mark.parametrize("name", sorted(WITH_LENGTH))
def test_objects_with_length_extend_along_y(name):
    for seed in range(10):
        assert np.ptp(_make(name, seed).vertices[:, 1]) == pytest.approx(5.0, abs=0.2)


def _areas_and_normals(mesh, chosen):
    a, b, c = (mesh.vertices[mesh.triangles[chosen, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    return np.linalg.norm(cross, axis=1) / 2, cross


@pytest.mark.parametrize("name", ["traffic_sign", "direction_sign", "overhead_sign"])
def test_sign_faces_point_along_x_with_bare_back(name):
    printed = [material_id("sign_face"), material_id("sign_print")]
    for seed in range(20):
        mesh = _make(name, seed)
        face = np.isin(mesh.material, printed)
        areas, normals = _areas_and_normals(mesh, face)
        assert areas.sum() > 0.03
        assert (mesh.label[face] == SIGN).all()
        across = np.abs(normals).argmax(axis=1) == 0
        assert areas[across & (normals[:, 0] > 0)].sum() > 0.4 * areas.sum()  # names of streets look four ways
        assert (mesh.label[mesh.material == material_id("sign_back")] == SIGN).all()


def test_sign_pattern_fills_face():
    for seed in range(40):
        mesh = furniture.traffic_sign(np.random.default_rng(seed))
        face = mesh.material == material_id("sign_face")
        if face.any():
            reach = np.abs(mesh.texture[mesh.triangles[face]]).max(axis=(0, 1))
            assert reach[1:] == pytest.approx([0.3, 0.3], abs=1e-5)


def test_lamp_arm_extends_over_road():
    reach = [furniture.lamp(np.random.default_rng(seed)).vertices[:, 0].max() for seed in range(20)]
    assert np.median(reach) > 1.0


def test_traffic_lights_face_x_with_arm_over_road():
    arms = 0
    for seed in range(20):
        mesh = furniture.traffic_light(np.random.default_rng(seed))
        areas, normals = _areas_and_normals(mesh, mesh.material == material_id("lamps"))
        assert areas.sum() > 0.25
        assert (normals[:, 0] > 0).all()
        arms += mesh.vertices[:, 1].min() < -2.5
        assert mesh.vertices[:, 1].max() < 0.6
    assert 5 < arms < 20


def test_wires_span_poles_with_sag():
    mesh = utility_pole(np.random.default_rng(0), span=30.0)
    wire = mesh.vertices[mesh.triangles[mesh.material == material_id("trim")]].reshape(-1, 3)
    assert wire[:, 1].max() == pytest.approx(30.0, abs=0.1)
    assert wire[:, 2].min() > 4.0
    assert wire[np.abs(wire[:, 1] - 15.0) < 1.0, 2].max() < wire[:, 2].max() - 0.4


def test_decoys_have_size_of_imitated_objects():
    for seed in range(15):
        stand, skip = _make("poster_stand", seed), _make("dumpster", seed)
        assert 1.6 < np.ptp(stand.vertices[:, 2]) < 2.8
        assert 1.7 < np.ptp(skip.vertices[:, 1]) < 4.6
        assert 1.0 < np.ptp(skip.vertices[:, 2]) < 1.8
