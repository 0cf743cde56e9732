import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from training.world.sequence import live_drive
from training.worldgen import drive as drive_module
from training.worldgen import populate
from training.worldgen.drive import MAX_SWEEPS, TEST, TRAIN, VALIDATION, Drive, drives_of, split_of
from training.worldgen.mesh import LABELS
from training.worldgen.scene import Scene
from training.worldgen.sensing.products import LIDARS, UNSEEN_LIDARS
from training.worldgen.sensing.rig import CARRIERS, Rig
from training.worldgen.street.streets import Streets
from xmodelkd_ros.core.errors import ConfigError

ROOT = Path(__file__).parents[3]
SEED, SWEEPS, COLUMNS = 1, 3, 512
FRAME = 1


def fresh_drive(seed=SEED):
    return Drive(seed, SWEEPS, cameras=1, columns=COLUMNS, every=10)


def digest(drive):
    """Hash of a sweep and an image."""
    scan, image = drive.scan(FRAME), drive.image(FRAME, 0)
    arrays = (scan.range_steps, scan.intensity, scan.label, scan.instance, image.rgb, image.label, image.distance)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


@pytest.fixture(scope="module")
def drive():
    return fresh_drive()


@pytest.fixture(scope="module")
def expected(drive):
    return digest(drive)


def test_same_seed_gives_same_bytes(expected):
    assert digest(fresh_drive()) == expected


def test_concurrent_generation_gives_same_bytes(drive, expected):
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: digest(drive), range(6))) == {expected}


def test_other_process_gives_same_bytes(expected):
    code = (
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('test_drive', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.digest(module.fresh_drive()))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr


def test_other_seed_gives_other_frames(expected):
    assert digest(fresh_drive(SEED + 1)) != expected


def test_frames_differ(drive):
    assert not np.array_equal(drive.scan(0).range_steps, drive.scan(1).range_steps)
    assert not np.array_equal(drive.image(0, 0).rgb, drive.image(1, 0).rgb)


@pytest.mark.parametrize("threads", [1, 3])
def test_frames_come_in_order_and_equal_single_calls(drive, threads):
    frames = list(drive.frames((2, 0), threads))
    assert [frame.index for frame in frames] == [2, 0]
    for frame in frames:
        assert np.array_equal(frame.scan.range_steps, drive.scan(frame.index).range_steps)
        (image,) = frame.images
        assert np.array_equal(image.rgb, drive.image(frame.index, 0).rgb)


def test_sweep_and_exposure_times_lie_within_track(drive):
    ends = [drive.end_s(index) for index in range(SWEEPS)]
    assert np.diff(ends) == pytest.approx(drive.period_s) == pytest.approx(1.0)
    firings = drive.rig.lidar.column_times_s()
    assert (np.diff(firings) > 0).all()
    assert firings[-1] == 0.0
    assert firings[0] > -0.1
    assert all(-0.14 < shutter < 0.04 for shutter in drive.rig.shutter_s)
    assert drive.track.times_s[0] <= ends[0] - 0.14
    assert drive.track.times_s[-1] >= ends[-1] + 0.04


def test_columns_argument_overrides_sensor(drive):
    assert drive.scan(0).range_steps.shape[0] == COLUMNS
    assert drive.scan(0).range_steps.shape[1] == drive.rig.lidar.beams


def test_compensated_points_match_scene_at_stamp(drive):
    """Rays from where the sensor was at the stamp to the points must end at the points."""
    sequence = live_drive(drive)
    index = max(range(SWEEPS), key=lambda k: _travelled_m(drive, k))
    assert _travelled_m(drive, index) > 0.3, "take a seed whose ego vehicle drives"
    still = np.isin(sequence.labels(index), [LABELS.id_of(name) for name in ("building", "road", "sidewalk")])
    fired, compensated = sequence.cloud(index).xyz[still], sequence.compensated(index)[still]
    matching = _share_of_matches(drive, index, compensated)
    assert matching > 0.9
    assert _share_of_matches(drive, index, fired) < matching - 0.1


def _travelled_m(drive, index):
    poses = drive.world_from_lidar(drive.end_s(index) + np.array([-0.1, 0.0]))
    return float(np.linalg.norm(poses[1, :3, 3] - poses[0, :3, 3]))


def _share_of_matches(drive, index, points):
    time = drive.end_s(index)
    pose = drive.world_from_lidar(np.array([time]))[0]
    distance = np.linalg.norm(points, axis=1)
    directions = (points / distance[:, None]) @ pose[:3, :3].T
    hits = drive.scene.tracer.trace(pose[:3, 3], directions.astype(np.float32), time)
    return float((np.abs(hits.distance - distance) < 0.1).mean())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"sweeps": 0}, "0 sweeps"),
        ({"sweeps": MAX_SWEEPS + 1}, "more seeds"),
        ({"sweeps": 11, "every": 10}, "more seeds"),
        ({"every": 0}, "every 0 turns"),
        ({"cameras": 2}, "2 cameras"),
        ({"seed": -1}, "seed is -1"),
        ({"columns": -5}, "columns -5"),
    ],
)
def test_rejects_arguments_out_of_range(arguments, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Drive(**{"seed": SEED, "sweeps": 2, **arguments})


def test_last_digit_of_seed_determines_split():
    splits = [split_of(seed) for seed in range(100)]
    assert [splits.count(split) for split in (TRAIN, VALIDATION, TEST)] == [80, 10, 10]
    assert split_of(9) == TEST
    assert split_of(108) == VALIDATION


@pytest.fixture
def drive_requests(drive, monkeypatch):
    """(split, unseen scene, LiDAR) requested by drives of many seeds, all with one scene."""
    scenes, sample = [], Rig.sample

    def generate(rng, duration_s, unseen):
        scenes.append(unseen)
        return drive.scene

    monkeypatch.setattr(drive_module.Scene, "generate", generate)
    monkeypatch.setattr(drive_module.Rig, "sample", lambda rng, cameras, choice: sample(rng, cameras, choice))
    lidars = [Drive(seed, 1, cameras=0).rig.lidar.name for seed in range(150)]
    return [(split_of(seed), scenes[seed], lidars[seed]) for seed in range(150)]


def test_only_test_drives_use_unseen_scenes_and_lidars(drive_requests):
    new = {lidar.name for lidar in UNSEEN_LIDARS}
    assert not new & {lidar.name for lidar in LIDARS}
    assert all(unseen == (split == TEST) for split, unseen, _ in drive_requests)
    assert not {lidar for split, _, lidar in drive_requests if split != TEST} & new
    seen = {lidar for split, _, lidar in drive_requests if split == TEST}
    assert seen & new
    assert seen - new, "test drives have the known sensors too"


def test_lidar_argument_selects_model(drive, monkeypatch):
    monkeypatch.setattr(drive_module.Scene, "generate", lambda rng, duration_s, unseen: drive.scene)
    rigs = [Drive(seed, 1, cameras=0, lidar="OS1-128").rig for seed in range(8)]
    assert {rig.lidar.name for rig in rigs} == {"OS1-128"}
    assert len({rig.lidar.elevations_deg for rig in rigs}) == 8, "every copy is a little different"
    with pytest.raises(ConfigError, match="lidar is 'OS9', but must be one of Pandar64, HDL-64E, "):
        Drive(0, 1, lidar="OS9")


def test_training_drives_use_every_lidar(drive_requests):
    assert {lidar for split, _, lidar in drive_requests if split == TRAIN} == {lidar.name for lidar in LIDARS}


@pytest.fixture
def each_of(drive, monkeypatch):
    """Drives with another LiDAR for each sweep, all of one scene."""
    monkeypatch.setattr(drive_module.Scene, "generate", lambda rng, duration_s, unseen: drive.scene)

    def make(seed, sweeps, lidar="each"):
        return drives_of(seed, sweeps, cameras=0, every=MAX_SWEEPS // sweeps, lidar=lidar)

    return make


def test_each_sweep_has_another_lidar_mounting_and_time(each_of):
    drives = each_of(3, len(LIDARS))
    assert {drive.rig.lidar.name for drive in drives} == {lidar.name for lidar in LIDARS}
    assert len({drive.rig.base_from_lidar.tobytes() for drive in drives}) == len(drives)
    assert {drive.sweeps for drive in drives} == {1}
    np.testing.assert_allclose(np.diff([drive.end_s(0) for drive in drives]), MAX_SWEEPS // len(LIDARS) * 0.1)
    assert len({id(drive.scene) for drive in drives}) == 1
    again = each_of(3, len(LIDARS))[4]
    assert again.rig.lidar == drives[4].rig.lidar
    assert again.scan(0).range_steps.tobytes() == drives[4].scan(0).range_steps.tobytes()
    assert each_of(3, 5)[4].rig.lidar == drives[4].rig.lidar, "a sensor depends on its number, not on that of all"


def test_each_lidar_includes_the_unseen_ones_in_test_drives_only(each_of):
    new = {lidar.name for lidar in UNSEEN_LIDARS}
    for seed in (3, 8, 9):
        names = {drive.rig.lidar.name for drive in each_of(seed, len(LIDARS) + len(new))}
        assert names & new == (new if split_of(seed) == TEST else set())


def test_each_unit_of_one_product_has_another_mounting(each_of):
    drives = each_of(3, 4, "each VLP-16")
    assert {drive.rig.lidar.name for drive in drives} == {"VLP-16"}
    assert len({drive.rig.lidar.elevations_deg for drive in drives}) == 4
    assert len({drive.rig.height_m for drive in drives}) == 4
    assert {drive.rig.lidar.name for drive in each_of(9, 2, "each OS0-128")} == {"OS0-128"}
    with pytest.raises(ConfigError, match="lidar is 'OS0-128', which is for test drives only"):
        each_of(3, 2, "each OS0-128")


def test_robots_drive_on_free_places_of_pavements(each_of, monkeypatch):
    robot = next(carrier for carrier in CARRIERS if carrier.walks)
    monkeypatch.setattr(drive_module.Carrier, "sample", lambda rng: robot)
    drives = each_of(3, 12)
    streets, tracer = drives[0].scene.streets, drives[0].scene.tracer
    places, heights = np.array([drive.track.positions[20] for drive in drives]), []
    kinds = [streets.zones[k].kind for k in streets.zone_at(*places[:, :2].T)]
    assert sum(kind in ("pavement", "plaza", "driveway") for kind in kinds) >= 9, f"{kinds}: others cross a road"
    for drive, place in zip(drives, places, strict=True):
        (pose,) = drive.world_from_lidar(np.array([drive.track.times_s[20]]))
        heights.append(pose[2, 3] - place[2])
        around = np.array([(np.cos(a), np.sin(a), 0) for a in np.arange(0, 6.2, 0.2)], np.float32)
        assert tracer.trace(pose[:3, 3], around, drive.track.times_s[20]).distance.min() > 0.2
        speed = np.linalg.norm(drive.track.positions[-1] - drive.track.positions[0]) / np.ptp(drive.track.times_s)
        assert speed < 2.0
    assert min(heights) > 0.45 and max(heights) < 1.05


@pytest.mark.parametrize("unseen", [False, True])
def test_only_unseen_scenes_have_reserved_layouts_and_buildings(unseen, monkeypatch):
    layouts, styles = [], []
    generate, building = Streets.generate, populate.buildings.building

    def record_streets(rng, unseen=False, kind=""):
        layouts.append(unseen)
        return generate(rng, unseen, kind)

    def record_building(rng, width, depth, unseen=False):
        styles.append(unseen)
        return building(rng, width, depth, unseen)

    monkeypatch.setattr("training.worldgen.scene.Streets.generate", record_streets)
    monkeypatch.setattr(populate.buildings, "building", record_building)
    # Of a test drive's two kinds of layouts, seed 3 draws the new one.
    Scene.generate(np.random.default_rng(3), 5.0, unseen, "urban")
    assert any(styles) == unseen
    assert not all(styles)
    assert any(layouts) == unseen
