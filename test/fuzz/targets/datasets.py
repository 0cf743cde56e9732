"""Dataset folders in their own layouts with mutated, exchanged or missing files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import yaml

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, Limits, Target, ensure, run_all
from test.fuzz.targets.bags import write_short_drive
from test.guards import MemoryBomb, Trap
from test.training.folders import write_kitti, write_nuscenes, write_pandaset
from training.config.data import SourceConfig
from training.data.image_samples import labelled_images
from training.data.registry import open_drives
from training.data.sources import load_source
from training.data.sweeps import InputSpec, WholeSweeps
from training.datasets.exposures import EncodedSweepImages
from training.datasets.nuscenes_tables import read_tables
from training.datasets.sequence import DriveSequence
from training.world.stored import store
from training.worldgen.drive import Drive, Frame
from training.worldgen.sensing.camera import CameraRender
from training.worldgen.sensing.lidar import Scan
from xmodelkd_ros.core.normalization import ChannelSpec
from xmodelkd_ros.core.projection import ProjectionSpec

_POINTS = 60
_XYZ = np.random.default_rng(0).uniform([-30, -30, -2], [30, 30, 4], (_POINTS, 3))
_INPUTS = InputSpec(
    ProjectionSpec(tuple(np.linspace(15, -25, 16).tolist()), 128),
    (ChannelSpec("z", 0.0, 1.0), ChannelSpec("sqrt_intensity", 8.0, 4.0)),
    (0.0, 255.0),
)


class Datasets(FolderTarget):
    """A small dataset folder with one or two changed files, read in all the ways training does."""

    name = "datasets"
    limits = Limits(seconds=5.0, memory=64 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        raw = np.arange(_POINTS)
        write_pandaset(self.folder / "pandaset", _XYZ, raw % 42 + 1, size=(192, 108))
        kitti = write_kitti(self.folder / "kitti", [8], _XYZ, np.where(raw % 2, 40, 50)) / "sequences" / "08"
        nuscenes = write_nuscenes(self.folder / "nuscenes", ["scene-0061"], _XYZ, raw % 32, size=(160, 90))
        _write_world(self.folder / "world")
        write_short_drive(self.folder / "bag")
        places = {"pandaset": self.folder / "pandaset", "semantickitti": kitti, "nuscenes": nuscenes}
        places |= {"world": self.folder / "world", "bag": self.folder / "bag"}
        self._places = places
        self._files = {dataset: _files_in(place) for dataset, place in places.items()}
        return self

    def seed_input(self) -> Any:
        return [(dataset, {}) for dataset in self._places]

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        """A dataset and its changed files by name; None for a missing file."""
        dataset = mutator.pick(list(self._places))
        files, changes = self._files[dataset], {}
        for _ in range(mutator.pick((1, 1, 2))):
            name = mutator.pick(list(files))
            if mutator.chance(0.5):  # tables and calibrations are few among pictures and sweeps
                name = mutator.pick([name for name in files if not name.endswith((".jpg", ".png", ".bin"))])
            changes[name] = _mutated(mutator, name, files)
        size = sum(len(changes.get(name, data) or b"") for name, data in files.items())
        return [(dataset, changes)], size

    def execute(self, value: Any) -> None:
        for dataset, changes in value:
            place = self._places[dataset]
            for name, data in changes.items():
                (place / name).unlink()
                if data is not None:
                    (place / name).write_bytes(data)
            try:
                self._use_drives(dataset, place)
            finally:
                read_tables.cache_clear()
                for name in changes:
                    (place / name).write_bytes(self._files[dataset][name])

    def _use_drives(self, dataset: str, place: Path) -> None:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            drives = open_drives(dataset, place)
            steps = [lambda d=drive, k=k: _use_frame(d, k) for drive in drives for k in range(min(len(drive), 3))]
            run_all(*steps, lambda: _use_source(SourceConfig(dataset, str(place))))


def _use_frame(drive: DriveSequence, k: int) -> None:
    """Read a frame in all the ways of training, bag export and reports."""
    cloud = drive.cloud(k)
    ensure(cloud.xyz.shape == (len(cloud), 3) and cloud.xyz.dtype == np.float32, "not a cloud")
    labels = drive.labels(k)
    ensure(labels.shape == (len(cloud),) and labels.dtype == np.uint8, "not one label per point")
    known = [c.id for c in drive.label_map.classes]
    ensure(np.isin(labels, [*known, 255]).all(), "unknown labels")
    times = drive.time_s(k)
    ensure(times.shape == (len(cloud),) and times.dtype == np.float32, "not one time per point")
    ensure(drive.world_from_lidar(k).shape == (4, 4) and isinstance(drive.stamp_ns(k), int), "no pose or no stamp")
    run_all(
        lambda: EncodedSweepImages.load(drive, k).decode(),
        lambda: labelled_images(drive, k, np.random.default_rng(0)),
        *(lambda image=image: _use_image(image) for image in drive.images(k)),
    )


def _use_source(config: SourceConfig) -> None:
    """As training has its sweeps: as inputs of a network, and in classes that it knows."""
    sweeps = load_source(config, "train", images=True).sweeps
    for inputs in map(WholeSweeps(sweeps, _INPUTS).__getitem__, range(len(sweeps))):
        ensure(all(np.isfinite(inputs[name]).all() for name in ("image", "points")), "inputs that are not finite")
        ensure(((inputs["labels"] < 13) | (inputs["labels"] == 255)).all(), "unknown labels")


def _use_image(image: Any) -> None:
    pixels = image.pixels()
    ensure(pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3, "not an image")


def _files_in(place: Path) -> dict[str, bytes]:
    return {str(file.relative_to(place)): file.read_bytes() for file in sorted(place.rglob("*")) if file.is_file()}


def _mutated(mutator: Mutator, name: str, files: Mapping[str, bytes]) -> bytes | None:
    """Other content for a file: mutated in its format or as bytes, another file's content, or None (missing)."""
    kind, data = mutator.below(10), files[name]
    if kind == 0:
        return None
    if kind == 1:
        return mutator.pick(list(files.values()))
    if kind < 4:
        return mutator.mutate_bytes(data)
    ending = next((ending for ending in _CONTENTS if name.endswith(ending)), "")
    return _CONTENTS[ending](mutator, data) if ending else mutator.mutate_bytes(data)


def _mutate_json(mutator: Mutator, data: bytes) -> bytes:
    return mutator.json_text(mutator.mutate_json(json.loads(data)))


def _mutate_yaml(mutator: Mutator, data: bytes) -> bytes:
    return yaml.safe_dump(mutator.mutate_json(yaml.safe_load(data))).encode("utf-8", "replace")


def _mutate_words(mutator: Mutator, data: bytes) -> bytes:
    """Text of numbers with one word replaced."""
    lines = [line.split(" ") for line in data.decode().split("\n")]
    line = mutator.pick(lines)
    word = mutator.pick((str(mutator.real()), mutator.text(), str(mutator.integer(64, signed=True)), ""))
    line[mutator.below(len(line))] = word
    return "\n".join(" ".join(line) for line in lines).encode("utf-8", "replace")


def _mutate_floats(mutator: Mutator, data: bytes) -> bytes:
    values = np.frombuffer(data, "<f4").copy()
    for _ in range(1 + mutator.below(8)):
        values[mutator.below(len(values))] = mutator.array("float32", 1)[0]
    return values.tobytes()


def _mutate_table(mutator: Mutator, data: bytes) -> bytes:
    """A pickle mutated below its compression, with another table, or with an object that is not a table."""
    inner = gzip.decompress(data)
    kind = mutator.below(4)
    if kind == 0:
        return gzip.compress(mutator.mutate_bytes(inner), 1)
    if kind == 1:
        other = mutator.pick(
            (
                Trap(),
                MemoryBomb(np.ndarray),
                {"x": [Trap()]},
                None,
                [1],
                np.zeros(3),
                print,
                slice(3),
                pandas.Index([1, 2]),
            )
        )
        return gzip.compress(pickle.dumps(other), 1)
    table = pickle.loads(inner)
    name = mutator.pick(list(table.columns))
    if kind == 2:
        dtype = mutator.pick(("float32", "float64", "int8", "int64", "uint8", "bool", "object", "str", "complex64"))
        table[name] = np.full(len(table), mutator.pick((0, 1, -1, 300, np.nan)), np.float64).astype(dtype)
        table = table.iloc[: mutator.pick((0, 1, len(table), len(table)))]
    elif mutator.chance(0.3):
        table = table.drop(columns=[name])
    else:
        table = table.astype("float64")
        table.loc[mutator.below(len(table)), name] = mutator.real()
    return gzip.compress(pickle.dumps(table), 1)


def _mutate_arrays(mutator: Mutator, data: bytes) -> bytes:
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    name = mutator.pick(list(arrays))
    whole = arrays[name]
    shape = mutator.pick((whole.shape, whole.shape, whole.shape[::-1], (), (0,), (3,), (2, 2, 2), (0, 16)))
    if mutator.chance(0.15):
        del arrays[name]
    else:
        dtype = mutator.pick((whole.dtype, "int8", "uint16", "int64", "float32", "bool", "S3"))
        arrays[name] = np.full(shape, mutator.pick((0, 1, -1, 77, 255, 65_535, np.nan)), np.float64).astype(dtype)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


_CONTENTS = {
    ".json": _mutate_json,
    ".yaml": _mutate_yaml,
    ".txt": _mutate_words,
    ".pcd.bin": _mutate_floats,
    ".pkl.gz": _mutate_table,
    ".npz": _mutate_arrays,
}


def _write_world(folder: Path) -> None:
    """Write a generated drive with real sensors and motion but random points, which is faster than ray casting."""
    drive, rng = Drive(1, 2, cameras=1, columns=16, lidar="VLP-32C"), np.random.default_rng(0)
    (camera,), beams = drive.rig.cameras, drive.rig.lidar.beams
    frames = []
    for index in range(2):
        steps = rng.integers(0, 10_000, (16, beams)).astype(np.uint16)
        labels = np.where(steps > 0, rng.integers(0, 13, steps.shape), 255).astype(np.uint8)
        scan = Scan(steps, rng.integers(0, 255, steps.shape).astype(np.uint8), labels, np.zeros(steps.shape, np.int32))
        size = (camera.height, camera.width)
        picture = CameraRender(np.zeros((*size, 3), np.uint8), np.full(size, 4, np.uint8), np.ones(size, np.float32))
        frames.append(Frame(index, scan, (picture,)))
    store(drive, folder, frames)
