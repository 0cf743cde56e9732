"""Generated drives that several test modules share: making one takes seconds."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("embreex", reason="generating drives needs the extra datasets")


@dataclass(frozen=True)
class Generated:
    """What ``python -m training.world`` left.

    Attributes:
        folder: the drive, or the drives.
        said: what the command printed.
        bag: the drive's bag.
        drive: arguments that make the same drive.
    """

    folder: Path
    said: str
    bag: Path | None = None
    drive: dict[str, int | str] | None = None


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A drive to choose with, two coarse sweeps and six cameras: folder and bag. Change nothing in it."""
    place = tmp_path_factory.mktemp("world")
    drive = {"seed": 18, "sweeps": 2, "cameras": 6, "columns": 300, "lidar": "VLP-32C"}
    folder, bag = place / "drive", place / "drive.mcap"
    options = [word for name, value in drive.items() for word in (f"--{name}", value)]
    return Generated(folder, _generate(*options, "--bag", bag, out=folder), bag, drive)


@pytest.fixture(scope="session")
def drives(tmp_path_factory):
    """A folder of two drives to train on, of the seeds 0 and 1: two sweeps each, five seconds apart."""
    folder = tmp_path_factory.mktemp("world") / "drives"
    said = _generate("--seed", 0, 1, "--sweeps", 2, "--every", 50, "--cameras", 0, out=folder)
    return Generated(folder, said)


def _generate(*words, out):
    from training.world import __main__ as world

    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert world.main([*map(str, words), "--out", str(out)]) == 0
    return said.getvalue()
