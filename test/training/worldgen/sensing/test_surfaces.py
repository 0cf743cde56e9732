from dataclasses import replace

import numpy as np
import pytest

from training.worldgen.materials import MATERIAL_NAMES, MATERIALS, Pattern, material_id, palette_colors
from training.worldgen.mesh import merge, plate
from training.worldgen.sensing.surfaces import Appearance, albedo, reflectance
from training.worldgen.tracing import Hits, Tracer

PIXELS = 48
FILL_THEIR_PLATE = {Pattern.POSTER, Pattern.SIGN, Pattern.LAMPS}


def trace_plate(material, size=2.0, instance=3, moved=(0.0, 0.0, 0.0), flat=False):
    """A tracer of one plate, and hits on a grid over it."""
    mesh = plate(size, size, material, "building").of_instance(instance)
    if flat:
        mesh = replace(mesh, vertices=mesh.vertices[:, [1, 2, 0]]).anchored()
    mesh = mesh.placed(*moved)
    tracer = Tracer(mesh)
    grid = (np.arange(PIXELS) + 0.5) / PIXELS * size - size / 2
    y, z = (axis.ravel() for axis in np.meshgrid(grid, grid))
    away = np.full_like(y, 2.0)
    origins = np.column_stack([y, z, away] if flat else [away, y, z]) + moved
    ray = np.array((0, 0, -1) if flat else (-1, 0, 0), np.float32)
    return tracer, tracer.trace(origins, np.tile(ray, (len(y), 1)), 0.0)


def colors(material, footprint, seed=0, **of):
    tracer, hits = trace_plate(material, **of)
    width = np.full(len(hits.triangle), footprint, np.float32)
    return albedo(Appearance.sample(np.random.default_rng(seed)), tracer, hits, width)


def test_same_seed_gives_same_bytes_other_seed_differs():
    tracer, hits = trace_plate("brick")
    width = np.full(len(hits.triangle), 0.01, np.float32)

    def look(seed):
        appearance = Appearance.sample(np.random.default_rng(seed))
        return albedo(appearance, tracer, hits, width).tobytes() + reflectance(appearance, tracer, hits).tobytes()

    assert look(5) == look(5)
    assert look(5) != look(6)


@pytest.mark.parametrize("material", MATERIAL_NAMES)
@pytest.mark.parametrize("footprint", [0.0, 0.02, 3.0])
def test_colors_and_reflectances_are_in_range(material, footprint):
    values = colors(material, footprint)
    assert values.shape == (PIXELS * PIXELS, 3) and values.dtype == np.float32
    assert (values > 0).all() and (values <= 2).all()
    tracer, hits = trace_plate(material)
    diffuse = reflectance(Appearance.sample(np.random.default_rng(0)), tracer, hits)
    assert diffuse.shape == (PIXELS * PIXELS,) and diffuse.dtype == np.float32
    assert (diffuse > 0).all() and (diffuse < 1).all()


def test_missed_rays_give_finite_values():
    tracer, hits = trace_plate("brick")
    nothing = Hits(np.full_like(hits.distance, np.inf), np.full_like(hits.triangle, -1), hits.u, hits.v, hits.normal)
    appearance = Appearance.sample(np.random.default_rng(0))
    assert np.isfinite(albedo(appearance, tracer, nothing, np.full(len(hits.u), np.inf, np.float32))).all()
    assert np.isfinite(reflectance(appearance, tracer, nothing)).all()


@pytest.mark.parametrize(
    "material", [m for m, row in MATERIALS.items() if row.pattern not in FILL_THEIR_PLATE and row.contrast > 0]
)
def test_large_footprint_removes_contrast_and_keeps_mean(material):
    size = max(2.0, 2 * MATERIALS[material].scale)
    near, far = colors(material, 0.005, size=size), colors(material, 30 * MATERIALS[material].scale, size=size)
    assert near.std(axis=0).max() > 0
    assert far.std(axis=0).max() < 0.35 * near.std(axis=0).max() + 0.004
    assert np.abs(far.mean(axis=0) - near.mean(axis=0)).max() < 0.3 * near.mean() + 0.02


@pytest.mark.parametrize("pattern", FILL_THEIR_PLATE)
def test_plate_patterns_are_centred(pattern):
    material = next(name for name, row in MATERIALS.items() if row.pattern == pattern)
    picture = colors(material, 0.01, size=1.0).reshape(PIXELS, PIXELS, 3)
    middle, edge = picture[:, 16:32].reshape(-1, 3), picture[:, :2].reshape(-1, 3)
    assert middle.std(axis=0).max() > 0.03
    assert edge.std(axis=0).max() < 0.2 * middle.std(axis=0).max()


def test_patterns_are_fixed_to_object():
    here, there = colors("paving_bricks", 0.01), colors("paving_bricks", 0.01, moved=(0.0, 31.7, 12.3))
    # Texture coordinates come back from float32 hits; only pixels on an edge may differ.
    assert (np.abs(here - there).max(axis=1) < 0.02).mean() > 0.95


def test_patterns_are_aligned_on_walls_and_ground():
    stripes = colors("barrier_stripes", 0.01).reshape(PIXELS, PIXELS, 3)
    assert np.ptp(stripes, axis=0).max() < 0.01 < np.ptp(stripes, axis=1).max(axis=-1).min()
    bands = colors("cone", 0.01).reshape(PIXELS, PIXELS, 3)
    assert np.ptp(bands, axis=1).max() < 0.01 < np.ptp(bands, axis=0).max(axis=-1).min()
    assert colors("paving_slabs", 0.01, flat=True).std() > 0.003


def test_instance_selects_color():
    shades = {colors("car_paint", 0.01, instance=i)[0].round(2).tobytes() for i in range(40)}
    assert len(shades) > 8


def test_palettes_are_shared_between_classes():
    """No class has a colour of its own: over scenes, materials of one palette have the same colours."""
    scenes = np.stack([Appearance.sample(np.random.default_rng(s)).colors[:, 0] for s in range(60)])
    names, _ = palette_colors()
    for palette in ("paint", "bright", "light"):
        assert palette in names
        group = [m for m, row in MATERIALS.items() if row.palette == palette]
        mean = np.stack([scenes[:, material_id(m)].mean(axis=(0, 1)) for m in group])
        assert len(group) > 3
        assert (np.ptp(mean, axis=0) < 0.15 * mean.mean(axis=0)).all(), palette


def ground_reflectances(material, scenes=60):
    tracer, hits = trace_plate(material, flat=True)
    looks = (Appearance.sample(np.random.default_rng(s)) for s in range(scenes))
    return np.array([reflectance(look, tracer, hits).mean() for look in looks])


def test_ground_reflectances_overlap_between_classes():
    road, paving, grass = (ground_reflectances(m) for m in ("asphalt", "paving_slabs", "grass"))
    for other in (paving, grass):
        brighter = (other[:, None] > road[None]).mean()
        assert 0.5 < brighter < 0.95
    marking = ground_reflectances("marking_white")
    assert np.median(marking / road) > 1.2
    assert (marking < 1.5 * road).mean() > 0.1


def test_worn_paint_exposes_ground_reflectance():
    tracer, hits = trace_plate("marking_white", flat=True)
    appearance = Appearance.sample(np.random.default_rng(1))
    values = reflectance(appearance, tracer, hits)
    paint, ground = appearance.reflectances[material_id("marking_white")]
    assert paint > ground
    assert values.max() > 1.3 * values.min()


def test_appearance_tables_match_materials():
    appearance = Appearance.sample(np.random.default_rng(0))
    glass = material_id("window")
    assert appearance.gloss[glass] == np.float32(MATERIALS["window"].gloss)
    assert appearance.transparent[glass] == np.float32(MATERIALS["window"].transparent)
    assert appearance.retro[material_id("sign_face")] > 1
    assert appearance.retro.shape == (len(MATERIALS),)


def test_merged_mesh_keeps_materials():
    parts = [plate(1, 1, "brick", "building"), plate(1, 1, "leaves", "vegetation")]
    tracer = Tracer(merge([parts[0], parts[1].placed(0, 5)]))
    origins, rays = np.array([(2.0, 0, 0), (2.0, 5, 0)]), np.tile(np.array((-1, 0, 0), np.float32), (2, 1))
    hits = tracer.trace(origins, rays, 0.0)
    brick, leaf = albedo(Appearance.sample(np.random.default_rng(0)), tracer, hits, np.full(2, 5.0, np.float32))
    assert leaf[1] > leaf[0] and brick[0] > brick[1]
