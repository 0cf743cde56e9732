"""Engines are used again only where everything fits, and only after they were compared."""

from dataclasses import replace

import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.inference.engine_cache import EngineCache, EngineKey, default_folder

KEY = EngineKey("ab" * 32, "fp16", "tensorrt 10.3.0", "Orin", "8.7", "12.6")


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def built(cache, key=KEY, content=b"engine"):
    engine = cache.build(key, lambda path: path.write_bytes(content))
    cache.accept(key, engine, 0.999)
    return engine


def test_an_engine_is_found_after_it_was_accepted(cache):
    assert cache.find(KEY) is None
    engine = cache.build(KEY, lambda path: path.write_bytes(b"engine"))
    assert (engine, cache.find(KEY)) == (b"engine", None)
    cache.accept(KEY, engine, 0.999)
    assert cache.find(KEY) == EngineCache(cache.folder).find(KEY) == b"engine"


@pytest.mark.parametrize("field", ["network", "precision", "library", "gpu", "capability", "driver", "format"])
def test_whatever_changes_asks_for_another_engine(cache, field):
    built(cache)
    assert cache.find(replace(KEY, **{field: "other"})) is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda engine, note: engine.write_bytes(b"engin"),
        lambda engine, note: engine.write_bytes(b"Engine"),
        lambda engine, note: engine.unlink(),
        lambda engine, note: note.unlink(),
        lambda engine, note: note.write_text("{"),
        lambda engine, note: note.write_text("[]"),
        lambda engine, note: note.write_text("[" * 100_000),
        lambda engine, note: note.write_text(note.read_text().replace("Orin", "Thor")),
    ],
)
def test_a_torn_or_foreign_engine_is_not_found_and_can_be_built_again(cache, harm):
    built(cache)
    (engine,), (note,) = cache.folder.glob("*.engine"), cache.folder.glob("*.json")
    harm(engine, note)
    assert cache.find(KEY) is None
    assert built(cache) == cache.find(KEY) == b"engine"


def test_of_engines_that_two_processes_build_at_once_one_that_was_compared_is_kept(cache):
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


def test_a_refused_engine_is_gone(cache):
    cache.build(KEY, lambda path: path.write_bytes(b"engine"))
    cache.reject(KEY)
    assert list(cache.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"cannot write engines to .*; set engine_cache_dir to another folder"):
        EngineCache(tmp_path / "file").build(KEY, lambda path: None)


def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "xmodelkd_ros" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(default_folder()) == "/home/someone/.cache/xmodelkd_ros/engines"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # the user is not in /etc/passwd either
    with pytest.raises(BackendError, match=r"cannot write engines to /dev/null/.*; set engine_cache_dir to another"):
        EngineCache().build(KEY, lambda path: None)
