"""Tables of points as any version of pandas pickles them."""

import bz2
import gzip
import io
import lzma
import pickle
import shutil
import sys
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from test.training.datasets.pandas_tables import EXPECTED, stored, variants
from test.training.folders import write_pandaset
from training.data.registry import open_drives
from training.datasets.table_pickle import columns, unpickled
from training.datasets.unpacking import unpacked
from xmodelkd_ros.core.errors import ConfigError

XYZ = np.random.default_rng(0).uniform([-20, -20, -2], [20, 20, 4], (50, 3))
STORED = stored()


def check(data):
    found = columns(unpickled(data), "xyzit")
    assert list(found) == list("xyzit")
    for name, values in EXPECTED.items():
        np.testing.assert_array_equal(found[name].astype(float), values)


@pytest.mark.parametrize("name", STORED)
def test_reads_what_versions_from_1_2_to_3_1_wrote(name):
    check(STORED[name])


def test_the_stored_tables_are_of_every_kind():
    for version in ("1.2.5", "1.5.3", "2.2.3", "2.3.3", "3.0.0", "3.1.1"):
        assert f"more, pandas {version}, protocol 5" in STORED
    assert b"ArrowStringArray" in STORED["plain, pandas 3.1.1, protocol 5"]
    assert b"StringDtype" in STORED["plain, pandas 3.0.0, protocol 2"], "strings without pyarrow"


@pytest.mark.parametrize("protocol", range(2, 6))
def test_reads_what_the_installed_version_writes(protocol):
    pandas = pytest.importorskip("pandas")
    for _, table in variants(pandas):
        check(pickle.dumps(table, protocol))


def test_neither_pandas_nor_pyarrow_is_needed(monkeypatch):
    for library in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, library, None)
    check(STORED["more, pandas 3.1.1, protocol 5"])


@pytest.mark.parametrize("compression", ["gzip", None, "bz2", "xz", "zip", "zstd"])
@pytest.mark.parametrize("suffix", [".pkl.gz", "as compressed"])
def test_a_sequence_saved_again_is_read_unchanged(tmp_path, suffix, compression):
    pandas = pytest.importorskip("pandas")
    if compression == "zstd":
        pytest.importorskip("zstandard")
    if suffix == "as compressed":
        suffix = ".pkl" + {"gzip": ".gz", "zstd": ".zst", None: ""}.get(compression, f".{compression}")
    folder = write_pandaset(tmp_path / "small", XYZ, np.arange(50) % 42 + 1, size=(192, 108))
    (drive,) = open_drives("pandaset", folder)
    cloud, labels = drive.cloud(1), drive.labels(1)
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    for file in again.rglob("*.pkl.gz"):
        table = pandas.read_pickle(file)
        file.unlink()
        table.columns = [str(name) for name in table.columns]  # pandas' own kind of index
        table.to_pickle(str(file).removesuffix(".pkl.gz") + suffix, compression=compression)
    (drive,) = open_drives("pandaset", again)
    assert drive.cloud(1).xyz.tobytes() == cloud.xyz.tobytes()
    assert drive.cloud(1).intensity.tobytes() == cloud.intensity.tobytes()
    np.testing.assert_array_equal(drive.labels(1), labels)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda pd: [1, 2], "not a table"),
        (lambda pd: pd.Series([1.0, 2.0]), "not a table"),
        (lambda pd: pd.DataFrame({"x": [1.0]}), "it has no column 'y', 'z'"),
        (lambda pd: pd.DataFrame([[1.0, 2.0]]), "its columns have no names"),
        (lambda pd: pd.DataFrame({name: ["a"] for name in "xyz"}), "could not convert string"),
        (lambda pd: pd.DataFrame({n: pd.array([1.5, None], dtype="Float64") for n in "xyz"}), "missing values"),
        (lambda pd: pd.DataFrame({n: pd.Categorical([1, None]) for n in "xyz"}), "missing values"),
        (lambda pd: pd.DataFrame({n: pd.to_datetime([1, 2]) for n in "xyz"}), "columns of 'DatetimeArray'"),
        (lambda pd: pd.DataFrame({n: pd.arrays.SparseArray([0, 1]) for n in "xyz"}), "columns of 'SparseArray'"),
    ],
)
def test_what_is_no_table_of_points_is_refused(content, problem):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=problem):
        found = columns(unpickled(pickle.dumps(content(pandas))), "xyz")
        np.column_stack(list(found.values())).astype(np.float64)


def test_objects_of_other_kinds_in_parts_that_are_not_read_are_no_reason_to_refuse():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({name: [1.0, 2.0] for name in "xyzit"})
    table["when"] = pandas.Timestamp("2026-01-01", tz="UTC")
    table.attrs = {"from": Path("drive"), "weight": Decimal(1), "day": date(2026, 1, 1)}
    np.testing.assert_array_equal(columns(unpickled(pickle.dumps(table)), "t")["t"], [1, 2])


@pytest.mark.parametrize("content", [b"K\x01r\x00\x00\x00\x04.", b"K\x01p9999999\n."])
def test_memory_for_objects_that_do_not_exist_is_refused(content):
    with pytest.raises(pickle.UnpicklingError, match="it stores an object as number"):
        unpickled(b"\x80\x02" + content)


def test_archive_of_several_files_and_bombs_are_refused(tmp_path):
    path = tmp_path / "tables.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("00.pkl", b"0")
        archive.writestr("01.pkl", b"1")
    with pytest.raises(ValueError, match="it is a zip archive of 2 files"):
        unpacked(path.read_bytes(), 1 << 20)
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        with pytest.raises(ValueError, match="it unpacks to more than 1 MB"):
            unpacked(compress(bytes(2 << 20)), 1 << 20)


def test_sizes_without_data_are_refused():
    for call in (b"cbuiltins\nbytearray\n", b"cnumpy\nndarray\n", b"c__builtin__\nbytearray\n"):
        with pytest.raises((pickle.UnpicklingError, TypeError)):
            unpickled(b"\x80\x02" + call + b"J\xff\xff\xff\x7f\x85R.")


def test_refusal_names_the_class(tmp_path):
    folder = write_pandaset(tmp_path / "small", XYZ, np.ones(50), size=(192, 108))
    (folder / "lidar/00.pkl.gz").write_bytes(gzip.compress(pickle.dumps(io.StringIO("x"))))
    with pytest.raises(ConfigError, match=r"00\.pkl\.gz: it uses _io\.StringIO, which tables do not need"):
        open_drives("pandaset", folder)[0].cloud(0)
