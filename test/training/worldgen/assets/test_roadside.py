import numpy as np
import pytest

from training.worldgen.assets import people, roadside, seats
from training.worldgen.mesh import LABELS

STATIC, SIGN, PERSON = (LABELS.id_of(name) for name in ("other_static", "traffic_sign", "person"))
VEGETATION = LABELS.id_of("vegetation")
MAKERS = {
    "pasture_fence": (lambda rng: roadside.pasture_fence(rng, 5.0), {STATIC}),
    "delineator": (roadside.delineator, {STATIC}),
    "noise_wall": (lambda rng: roadside.noise_wall(rng, 5.0), {STATIC, VEGETATION}),
    "gantry": (lambda rng: roadside.gantry(rng, 14.0), {STATIC, SIGN}),
    "bridge_deck": (lambda rng: roadside.bridge_deck(rng, 50.0, 8.0), {STATIC}),
    "bridge_pier": (lambda rng: roadside.bridge_pier(rng, 8.0), {STATIC}),
    "used_bench": (seats.used_bench, {STATIC, PERSON}),
    "used_table": (seats.used_table, {STATIC, PERSON}),
    "sitting": (people.sitting, {PERSON}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_objects_have_their_labels_and_stand_on_ground(name):
    maker, allowed = MAKERS[name]
    for seed in range(12):
        mesh = maker(np.random.default_rng(seed))
        again = maker(np.random.default_rng(seed))
        assert mesh.vertices.tobytes() == again.vertices.tobytes()
        assert np.isfinite(mesh.vertices).all()
        assert set(mesh.label.tolist()) <= allowed
        assert 0 < len(mesh) < 4000
        assert mesh.vertices[:, 2].min() > -0.3


@pytest.mark.parametrize("name", ["gantry", "bridge_deck"])
def test_trucks_fit_below(name):
    """The gantry's post, at the origin, stands beside the road."""
    for seed in range(12):
        vertices = MAKERS[name][0](np.random.default_rng(seed)).vertices
        over = np.abs(vertices[:, 1]) > 0.5
        assert vertices[over, 2].min() > 4.2


def test_people_sit_with_feet_on_ground_and_seat_under_hip():
    for seed in range(12):
        low, high = (f(people.sitting(np.random.default_rng(seed)).vertices, axis=0) for f in (np.min, np.max))
        assert -0.1 < low[2] < 0.1
        assert 1.0 < high[2] < 1.6
        assert high[0] < 0.75
