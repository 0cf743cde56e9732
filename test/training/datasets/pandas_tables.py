"""Small tables as several versions of pandas pickle them; ``pandas_tables.npz`` holds the pickles.

``python pandas_tables.py FOLDER`` in an environment of each version adds its pickles to the folder, then
``python pandas_tables.py FOLDER pandas_tables.npz`` collects them.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

EXPECTED = {name: np.arange(4.0) + k for k, name in enumerate("xyzit")}
STORED = Path(__file__).with_suffix(".npz")


def variants(pd):
    """Tables of the expected columns as users store them, by name."""
    table = pd.DataFrame({**EXPECTED, "d": np.zeros(4, np.int64)})
    yield "plain", table
    more = table.assign(note=list("abcd"), kind=pd.Categorical(list("pqpq")), ok=table.x > 1)
    more = more.assign(when=pd.to_datetime(table.x, unit="s"), text=pd.array(["a"] * 4, dtype="string"))
    more["later"] = more.when
    more.attrs["by"] = "a user"
    yield (
        "more",
        more[["note", "t", "i", "when", "z", "y", "x", "kind", "ok", "text", "later"]].rename_axis(columns="field"),
    )
    yield "nullable", table.convert_dtypes()
    yield "categories", table.astype("category")
    yield "selected", pd.concat([table, table]).iloc[:4]
    if "pyarrow" in sys.modules and hasattr(pd, "ArrowDtype"):
        yield "arrow", table.convert_dtypes(dtype_backend="pyarrow")


def write(folder):
    """Write the tables with the installed version of pandas, with its own protocol and an old one."""
    import pandas as pd

    for name, table in variants(pd):
        for protocol in (2, 5) if name == "plain" else (5,):
            stem = f"{name}, pandas {pd.__version__}, protocol {protocol}"
            table.to_pickle(folder / f"{stem}.pkl.gz", protocol=protocol)


def stored():
    """The stored pickles by name."""
    with np.load(STORED) as pickles:
        return {name: pickles[name].tobytes() for name in pickles.files}


if __name__ == "__main__":
    files = sorted(Path(sys.argv[1]).glob("*.pkl.gz"))
    if sys.argv[2:]:
        pickles = {f.name[: -len(".pkl.gz")]: np.frombuffer(gzip.decompress(f.read_bytes()), np.uint8) for f in files}
        np.savez_compressed(sys.argv[2], **pickles)
    else:
        write(Path(sys.argv[1]))
