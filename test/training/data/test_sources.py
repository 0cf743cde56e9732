"""Loading of training sources from folders and seeds."""

from dataclasses import replace
from pathlib import Path

import pytest

from training.config.data import SourceConfig
from training.data import sources
from training.data.cache import run_cache
from training.data.sources import load_source, stored_frames
from training.datasets.pandaset import PandaSetSequence
from training.world import __main__ as world
from training.world.sequence import WORLD_SOURCE
from training.world.stored import stored_drives
from xmodelkd_ros.core.beam_table import elevations_deg, fit_beams
from xmodelkd_ros.core.errors import ConfigError


def same(sweep, drive, index):
    cloud = drive.cloud(index)
    return (
        sweep.cloud.xyz.tobytes() == cloud.xyz.tobytes()
        and sweep.cloud.intensity.tobytes() == cloud.intensity.tobytes()
        and sweep.labels.tobytes() == drive.labels(index).tobytes()
    )


def test_loads_frames_of_pandaset(pandaset):
    source = load_source(SourceConfig("pandaset", str(pandaset), frames=(3, 5)), "train")
    sequence = PandaSetSequence(pandaset)
    assert [same(sweep, sequence, index) for sweep, index in zip(source.sweeps, (3, 4), strict=True)] == [True] * 2
    assert [index for _, index in source.frames] == [3, 4]
    assert source.origin == sequence.source
    every = stored_frames(SourceConfig("pandaset", str(pandaset), frames=(3, 8), every=2), "train")
    assert [index for _, index in every] == [3, 5, 7]


def test_loads_sweeps_of_a_bag(generated):
    source = load_source(SourceConfig("bag", str(generated.bag), topic="/points"), "train", images=True)
    (drive,) = stored_drives(generated.folder)
    assert [same(sweep, drive, index) for index, sweep in enumerate(source.sweeps)] == [True] * 2
    assert [len(look.jpegs) for look in source.encoded_images] == [6, 6]


def test_loads_frames_of_a_folder_of_drives(drives):
    source = load_source(SourceConfig("world", str(drives.folder)), "train")
    frames = [(drive, index) for drive in stored_drives(drives.folder) for index in range(2)]
    assert [same(s, *frame) for s, frame in zip(source.sweeps, frames, strict=True)] == [True] * 4
    assert [(drive.name, index) for drive, index in source.frames] == [(drive.name, index) for drive, index in frames]
    assert source.origin == WORLD_SOURCE
    some = load_source(SourceConfig("world", str(drives.folder), frames=(1, 2)), "train")
    assert [index for _, index in some.frames] == [1, 1]


def test_generated_drives_equal_those_written_by_the_command(drives):
    source = load_source(SourceConfig("world", seeds=(0, 2), sweeps=2), "train")
    assert source.frames == [] and source.origin == WORLD_SOURCE
    frames = [(drive, index) for drive in stored_drives(drives.folder) for index in range(2)]
    assert [same(s, *frame) for s, frame in zip(source.sweeps, frames, strict=True)] == [True] * 4
    first, second = (frames[0][0].stamp_ns(index) for index in (0, 1))
    assert second - first == 5_000_000_000, "spread over ten seconds"


@pytest.mark.parametrize(("use", "seeds"), [("train", [6, 7, 10]), ("validation", [8])])
def test_seeds_are_selected_by_split(monkeypatch, use, seeds):
    taken = []
    monkeypatch.setattr(sources, "each_drive", lambda work, seeds: taken.append(seeds) or [])
    load_source(SourceConfig("world", seeds=(6, 11)), use)
    assert taken == [seeds], "test seeds end in 9"


def test_generates_drives_with_the_configured_lidar(monkeypatch):
    monkeypatch.setattr(sources, "each_drive", lambda work, seeds: map(work, seeds))
    (sweep,) = load_source(SourceConfig("world", seeds=(0, 1), sweeps=1, lidar="VLP-32C"), "train").sweeps
    assert len(fit_beams(elevations_deg(sweep.cloud.xyz))) == 32


def test_generates_another_lidar_for_each_sweep(monkeypatch, tmp_path):
    """The same sweeps as those of the folder that the command writes."""
    monkeypatch.setattr(sources, "each_drive", lambda work, seeds: map(work, seeds))
    live = load_source(SourceConfig("world", seeds=(0, 1), sweeps=3, lidar="each"), "train").sweeps
    assert len({len(sweep.labels) for sweep in live}) == 3
    words = ["--seed", "0", "--sweeps", "3", "--every", "33", "--lidar", "each", "--cameras", "0"]
    assert world.main([*words, "--out", str(tmp_path / "drive")]) == 0
    stored = stored_drives(tmp_path / "drive")
    assert [same(sweep, drive, 0) for sweep, drive in zip(live, stored, strict=True)] == [True] * 3
    source = load_source(SourceConfig("world", str(tmp_path)), "train")
    assert [same(sweep, drive, 0) for sweep, drive in zip(source.sweeps, stored, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("config", "use", "message"),
    [
        ({"dataset": "world", "seeds": (9, 10)}, "train", "seeds 9 to 9 contain no train seed; give a wider range"),
        ({"dataset": "world", "seeds": (0, 8)}, "validation", "seeds 0 to 7 contain no validation seed"),
        ({"dataset": "world", "path": "{empty}"}, "train", "holds no generated drive"),
        ({"dataset": "pandaset", "path": "{empty}"}, "train", "is not a PandaSet sequence"),
        ({"dataset": "world", "path": "{drive}", "frames": (1, 3)}, "validation", "seed 18 has no frame 2; it has 0"),
    ],
)
def test_rejects_sources_that_cannot_be_loaded(generated, tmp_path, config, use, message):
    places = {"{empty}": str(tmp_path), "{drive}": str(generated.folder)}
    config = {name: places.get(value, value) if name == "path" else value for name, value in config.items()}
    with pytest.raises(ConfigError, match=message):
        load_source(SourceConfig(**config), use)


def test_source_as_text():
    assert str(SourceConfig("pandaset", "../data/002", frames=(0, 40))) == "pandaset 002, frames 0:40"
    assert str(SourceConfig("world", str(Path("drives") / "validation"))) == "world validation, all frames"
    assert str(SourceConfig("world", seeds=(0, 500), sweeps=4)) == "world seeds 0:500, 4 sweeps each"
    assert str(SourceConfig("world", seeds=(0, 9), lidar="VLP-32C")) == "world seeds 0:9, 5 sweeps each, VLP-32C"


def test_rejects_drives_of_another_split(generated):
    with pytest.raises(ConfigError, match="seed 18 is a validation drive and cannot be used for train"):
        load_source(SourceConfig("world", str(generated.folder)), "train")


def test_source_is_read_once_within_the_cache(drives, monkeypatch):
    """Independent of its share and the use of its labels; outside of the cache it is read again."""
    reads = []
    frames = sources.stored_frames
    monkeypatch.setattr(sources, "stored_frames", lambda *words: reads.append(words) or frames(*words))
    config = SourceConfig("world", str(drives.folder))
    with run_cache():
        first = load_source(config, "train")
        again = load_source(replace(config, share=3.0, labels="none"), "train")
        assert len(reads) == 1 and again.sweeps is first.sweeps
        assert (again.config.share, again.config.labels) == (3.0, "none")
        load_source(replace(config, frames=(0, 1)), "train")
        assert len(reads) == 2
    load_source(config, "train")
    assert len(reads) == 3
