"""Engines are reused only with an equal key, and only after acceptance."""

from dataclasses import replace

import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.inference.engine_cache import EngineCache, EngineKey, default_folder

KEY = EngineKey("ab" * 32, "fp16", "tensorrt 10.3.0", "Orin", "8.7", "12.6")


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def build_and_accept(cache, key=KEY, content=b"engine"):
    engine = cache.build(key, lambda path: path.write_bytes(content))
    cache.accept(key, engine, 0.999)
    return engine


def test_finds_engines_only_after_acceptance(cache):
    assert cache.find(KEY) is None
    engine = cache.build(KEY, lambda path: path.write_bytes(b"engine"))
    assert (engine, cache.find(KEY)) == (b"engine", None)
    cache.accept(KEY, engine, 0.999)
    assert cache.find(KEY) == EngineCache(cache.folder).find(KEY) == b"engine"


@pytest.mark.parametrize("field", ["network", "precision", "library", "gpu", "capability", "driver", "format"])
def test_every_part_of_the_key_matters(cache, field):
    build_and_accept(cache)
    assert cache.find(replace(KEY, **{field: "other"})) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda engine, metadata: engine.write_bytes(b"engin"),
        lambda engine, metadata: engine.write_bytes(b"Engine"),
        lambda engine, metadata: engine.unlink(),
        lambda engine, metadata: metadata.unlink(),
        lambda engine, metadata: metadata.write_text("{"),
        lambda engine, metadata: metadata.write_text("[]"),
        lambda engine, metadata: metadata.write_text("[" * 100_000),
        lambda engine, metadata: metadata.write_text(metadata.read_text().replace("Orin", "Thor")),
    ],
)
def test_damaged_or_foreign_engines_are_rebuilt(cache, damage):
    build_and_accept(cache)
    (engine,), (metadata,) = cache.folder.glob("*.engine"), cache.folder.glob("*.json")
    damage(engine, metadata)
    assert cache.find(KEY) is None
    assert build_and_accept(cache) == cache.find(KEY) == b"engine"


def test_concurrent_builds_keep_an_accepted_engine(cache):
    mine = cache.build(KEY, lambda path: path.write_bytes(b"mine"))
    theirs = cache.build(KEY, lambda path: path.write_bytes(b"theirs"))
    assert cache.find(KEY) is None
    cache.accept(KEY, mine, 0.999)
    assert cache.find(KEY) == b"mine"
    cache.accept(KEY, theirs, 0.998)
    assert cache.find(KEY) == b"theirs"
    cache.reject(KEY)
    cache.accept(KEY, mine, 0.999)
    assert cache.find(KEY) == b"mine"


def test_rejected_engines_are_deleted(cache):
    cache.build(KEY, lambda path: path.write_bytes(b"engine"))
    cache.reject(KEY)
    assert list(cache.folder.iterdir()) == []


def test_reports_unwritable_folders(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"cannot write engines to .*; set engine_cache_dir to another folder"):
        EngineCache(tmp_path / "file").build(KEY, lambda path: None)


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "xmodelkd_ros" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(default_folder()) == "/home/someone/.cache/xmodelkd_ros/engines"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # user without an entry in /etc/passwd
    with pytest.raises(BackendError, match=r"cannot write engines to /dev/null/.*; set engine_cache_dir to another"):
        EngineCache().build(KEY, lambda path: None)
