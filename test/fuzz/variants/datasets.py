"""Datasets of which only a part is there, and tables that users have saved again."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import shutil
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, InvariantError, Limits, Target, ensure
from test.training.folders import write_kitti, write_nuscenes, write_pandaset
from training.data.registry import open_drives
from xmodelkd_ros.core.errors import XModelKDError

_POINTS = 48
_XYZ = np.random.default_rng(0).uniform([-20, -20, -2], [20, 20, 4], (_POINTS, 3))
_NEEDED = {
    "semantickitti": re.compile(r"velodyne/"),
    "nuscenes": re.compile(
        r"samples/LIDAR_TOP/|v1\.0-mini/(scene|sample|sample_data|sensor|calibrated_sensor|ego_pose|log|category)\.json"
    ),
    "pandaset": re.compile(r"lidar/"),
}
"""Files without which there is no sweep."""
_LABELS = re.compile(r"labels/|lidarseg|annotations/")
_CAMERAS = re.compile(r"image_2/|calib\.txt|samples/CAM_|camera/.*(jpg|intrinsics|timestamps)|static_extrinsic")
_MOUNTING = re.compile(r"camera/front_camera/|static_extrinsic")


class DatasetParts(FolderTarget):
    """Without files that sweeps do not need, the sweeps are the same; missing cameras are noted."""

    name = "dataset_parts"
    limits = Limits(seconds=5.0, memory=64 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        raw = np.arange(_POINTS)
        whole = self.folder / "whole"
        write_kitti(whole / "semantickitti", [8], _XYZ, np.where(raw % 2, 40, 50))
        write_nuscenes(whole / "nuscenes", ["scene-0061"], _XYZ, raw % 32, size=(160, 90))
        write_pandaset(whole / "pandaset", _XYZ, raw % 42 + 1, size=(192, 108))
        self._root = {"semantickitti": "sequences/08", "nuscenes": "", "pandaset": ""}
        self._files = {name: _files_in(whole / name / root) for name, root in self._root.items()}
        self._sweeps = {name: _sweeps(name, whole / name / root)[0] for name, root in self._root.items()}
        return self

    def seed_input(self) -> Any:
        return "semantickitti", []

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        dataset = mutator.pick(list(self._files))
        optional = [name for name in self._files[dataset] if not _NEEDED[dataset].search(name)]
        if mutator.chance(0.5):  # a whole folder, or all files of a kind
            stem = mutator.pick(optional).split("/")[0]
            gone = [name for name in optional if name.startswith(stem)]
        else:
            gone = sorted({mutator.pick(optional) for _ in range(1 + mutator.below(3))})
        return (dataset, gone), 10_000

    def execute(self, value: Any) -> None:
        dataset, gone = value
        shutil.rmtree(self.folder / "part", ignore_errors=True)
        shutil.copytree(self.folder / "whole" / dataset, self.folder / "part" / dataset)
        place = self.folder / "part" / dataset / self._root[dataset]
        for name in gone:
            (place / name).unlink()
        for folder in sorted((f for f in place.rglob("*") if f.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        try:
            sweeps, notes = _sweeps(dataset, place)
        except XModelKDError as error:
            text = str(error).replace(str(self.folder), "")
            raise InvariantError(f"refused without need: {dataset}: {text}"[:200]) from error
        whole = self._sweeps[dataset]
        ensure(len(sweeps) == len(whole), "a sweep is lost")
        for (xyz, labels), (all_xyz, all_labels) in zip(sweeps, whole, strict=True):
            # PandaSet's points are in the world frame, and without its camera another drive's mounting is used.
            if not any(map(_MOUNTING.search, gone)):
                ensure(np.array_equal(xyz, all_xyz), "other points")
            ensure(np.isin(labels, 255).all() or np.array_equal(labels, all_labels), "other labels")
            changed = not np.array_equal(labels, all_labels)
            ensure(not changed or any(map(_LABELS.search, gone)), "labels are lost though their files are there")
        ensure(notes or not any(map(_CAMERAS.search, gone)), "missing cameras without a note")


def _files_in(place: Path) -> list[str]:
    return sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())


def _sweeps(dataset: str, place: Path) -> tuple[list[Any], str]:
    """Points and labels of each sweep, and what the user reads about the drive."""
    said = io.StringIO()
    with redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _forget_tables()
        sweeps, notes = [], []
        for drive in open_drives(dataset, place):
            sweeps += [(drive.cloud(k).xyz, drive.labels(k)) for k in range(len(drive))]
            notes += getattr(drive, "notes", [])
    return sweeps, "".join(notes) + said.getvalue()


def _forget_tables() -> None:
    from training.datasets import nuscenes

    read = getattr(nuscenes, "read_tables", None)
    if read is not None:
        read.cache_clear()


class Tables(FolderTarget):
    """PandaSet's tables saved again by the installed pandas, in any types and order: the same sweep."""

    name = "tables"
    limits = Limits(seconds=5.0, memory=64 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        self._place = write_pandaset(self.folder / "pandaset", _XYZ, np.arange(_POINTS) % 42 + 1, size=(192, 108))
        self._names = sorted(str(file.relative_to(self._place)) for file in self._place.rglob("*.pkl.gz"))
        self._data = {name: (self._place / name).read_bytes() for name in self._names}
        self._whole = _sweeps("pandaset", self._place)[0]
        return self

    def seed_input(self) -> Any:
        return self._names[0], 5, False, []

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        steps = [mutator.pick(list(_RESAVED)) for _ in range(mutator.below(4))]
        return (mutator.pick(self._names), mutator.pick((2, 4, 5)), mutator.chance(0.2), steps), 10_000

    def execute(self, value: Any) -> None:
        name, protocol, plain, steps = value
        table = pickle.loads(gzip.decompress(self._data[name]))
        for step in steps:
            table = _RESAVED[step](table)
        data = pickle.dumps(table, protocol)
        try:
            (self._place / name).write_bytes(data if plain else gzip.compress(data, 1))
            found = _sweeps("pandaset", self._place)[0]
        except XModelKDError as error:
            text = str(error).replace(str(self.folder), "")
            raise InvariantError(f"refused without need: {' '.join(steps)}: {text}"[:200]) from error
        finally:
            (self._place / name).write_bytes(self._data[name])
        for (xyz, labels), (all_xyz, all_labels) in zip(found, self._whole, strict=True):
            ensure(np.allclose(xyz, all_xyz, atol=1e-5) and np.array_equal(labels, all_labels), "another sweep")


def _named(table: Any) -> Any:
    table = table.copy()
    table.columns = pandas.Index([str(name) for name in table.columns])
    return table


_RESAVED = {
    "columns as strings": _named,
    "other order": lambda table: table[list(table.columns)[::-1]],
    "another column": lambda table: table.assign(note="x", weight=1.5),
    "text of pandas": lambda table: table.assign(name=pandas.array(["a"] * len(table), dtype="string")),
    "nullable": lambda table: table.convert_dtypes(),
    "another index": lambda table: table.set_index(pandas.Index(np.arange(len(table)) + 7, name="point")),
    "joined": lambda table: pandas.concat([table.iloc[:9], table.iloc[9:]]),
    "categories": lambda table: table.astype("category"),
    "copied": lambda table: table.copy(),
}
"""What users do to a table without changing its values."""
