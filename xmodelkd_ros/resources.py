"""Locate models and configuration: a given path, the package's share folder, or the source tree.

Training looks in the source tree before the share folder (:func:`prefer_source_tree`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import pairwise
from pathlib import Path

from xmodelkd_ros.core.errors import ConfigError, LabelError, ModelError, SensorError, listed, quoted
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.similar_names import nearest_names

_PACKAGE = "xmodelkd_ros"
_MIN_SIMILARITY = 0.5
"""Of a shipped file's name to a misspelt one: users write the maker, or another size, with a product's name."""
_MOST_PROPOSED = 3

AUTO_SENSOR, NO_SENSOR = "auto", "none"
"""Settings of the sensor that are no file or product: estimate it, or take the one that the model was trained on."""

_source_tree_first = False


def prefer_source_tree() -> None:
    """Look in the source tree before the share folders from now on in this process.

    Training does: it works on the models and tables of its clone, and an installed copy may be older.
    """
    global _source_tree_first
    _source_tree_first = True


def _roots() -> Iterator[Path]:
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    installed = [Path(prefix) / "share" / _PACKAGE for prefix in (*prefixes, sys.prefix)]
    source_tree = Path(__file__).resolve().parents[1]
    yield from (source_tree, *installed) if _source_tree_first else (*installed, source_tree)


def user_path(text: str) -> Path:
    """Path from user input, ``~`` expanded where possible; accepts any text, also invalid file names."""
    return Path(os.path.expanduser(text))


def _find(relative: Path) -> Path | None:
    if relative.is_absolute() or ".." in relative.parts:  # untrusted: label set names come from bags and models
        return None
    # os.path.exists, since pathlib raises for names that are too long or contain a null byte.
    return next((root / relative for root in _roots() if os.path.exists(root / relative)), None)


def find_model(name_or_path: str) -> Path:
    """Folder of a model, given by its path or by the name of a shipped model.

    Raises:
        ModelError: no such model exists; the message names the shipped ones and the nearest.
    """
    path = user_path(name_or_path)
    if os.path.isfile(path / "model.json"):
        return path
    shipped = _find(Path("models") / name_or_path)
    if shipped is not None and os.path.isfile(shipped / "model.json"):
        return shipped
    known = shipped_models()
    ships = f" ({listed(known)})" if known else ""
    proposal = _proposal(name_or_path.rpartition("/")[2], known, 1)
    raise ModelError(
        f"no model {quoted(str(name_or_path))}: neither a folder with a model.json nor a model this package "
        f"ships{ships}{proposal} 'python -m training.export RUN OUT_DIR' exports one"
    )


def shipped_models() -> list[str]:
    """Names of the models that this package ships, sorted; without teachers that have no network for a vehicle."""
    return sorted({file.parent.name for root in _roots() for file in root.glob("models/*/model.onnx")})


def shipped_sensors() -> dict[str, Path]:
    """Sensor files in ``config/sensors/`` by name, sorted."""
    folder = _find(Path("config") / "sensors")
    return {path.stem: path for path in sorted(folder.glob("*.json"))} if folder is not None else {}


def shipped_image_classes() -> list[str]:
    """Names of the tables in ``config/image_classes/``, sorted."""
    return sorted(path.stem for path in find_config("image_classes").glob("*.json"))


def sensor_file(name: str) -> Path:
    """Path of a shipped sensor file by its name, in any case and with or without dashes.

    Raises:
        SensorError: the name is unknown; the message names the nearest ones, and where the known ones are.
    """
    shipped = {_plain(known): file for known, file in shipped_sensors().items()}
    wanted = _plain(name)
    if wanted in shipped:
        return shipped[wanted]
    proposal = _proposal(name, [file.stem for file in shipped.values()], _MOST_PROPOSED)
    folders = {str(file.parent) for file in shipped.values()}
    where = f" (the {len(shipped)} files in {listed(folders)})" if shipped else ""
    raise SensorError(
        f"no sensor {quoted(name)}: neither a file nor a known LiDAR{where}{proposal} "
        "'xmodelkd fit-sensor BAG' writes a file"
    )


def _proposal(name: str, known: Iterable[str], most: int) -> str:
    """What may be meant by an unknown name, as a part of a message; just a full stop if no known name is similar."""
    by_plain = {_plain(other): other for other in known}
    near = [by_plain[plain] for plain in nearest_names(_plain(name), by_plain, most, _MIN_SIMILARITY)]
    return f"; did you mean {' or '.join(near)}?" if near else "."


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def read_sensor(name_or_path: str) -> SensorSpec:
    """Read a sensor file, given by its path or by the name of a shipped one.

    Raises:
        SensorError: neither a file nor a known name, or not a valid sensor file.
    """
    path = user_path(name_or_path)
    return SensorSpec.read(path if os.path.isfile(path) else sensor_file(name_or_path))


def given_sensor(setting: str) -> SensorSpec | None:
    """The sensor file that a setting names; None for ``auto`` (or empty) and ``none``.

    Raises:
        SensorError: as in :func:`read_sensor`.
    """
    return None if setting.strip().lower() in (AUTO_SENSOR, NO_SENSOR, "") else read_sensor(setting)


def find_config(relative: str) -> Path:
    """Path of a file in ``config/``.

    Raises:
        ConfigError: the package has no such file.
    """
    path = _find(Path("config") / relative)
    if path is None:
        raise ConfigError(f"the package lacks config/{relative}; reinstall it")
    return path


def label_map(name: str) -> LabelMap:
    """Read a label set by name from ``config/labels/``."""
    path = _find(Path("config") / "labels" / f"{name}.json") if "_to_" not in name else None
    if path is None:
        known = _label_sets()
        meant = _proposal(name, known, 1).removesuffix(".") or ";"
        raise LabelError(f"no label set {quoted(name)}{meant} known are {listed(known)}")
    return LabelMap.read(path)


def _label_sets() -> list[str]:
    """Names of the label sets in ``config/labels/``, sorted."""
    return sorted(path.stem for path in find_config("labels").glob("*.json") if "_to_" not in path.stem)


def has_table(source: LabelMap, target: LabelMap) -> bool:
    """Whether tables in ``config/labels/`` lead from one label set to another one."""
    return len(_route(source.name, target.name)) > 1


def _route(source: str, target: str) -> tuple[str, ...]:
    """The shortest sequence of label sets from ``source`` to ``target`` with a table to each next one; empty if none.

    Tables keep fewer classes with each step, so that a single one, where it exists, is the best.
    """
    routes: list[tuple[str, ...]] = [(source,)]
    known = sorted({target, *_label_sets()})
    for route in routes:  # grows within the loop
        if route[-1] == target:
            return route
        reached = {name for other in routes for name in other}
        routes += [(*route, name) for name in known if name not in reached and _has_own_table(route[-1], name)]
    return ()


def _has_own_table(source: str, target: str) -> bool:
    return _find(Path("config") / "labels" / f"{source}_to_{target}.json") is not None


def translation(source: LabelMap, target: LabelMap) -> LabelTranslation:
    """Translation between two label sets: by tables in ``config/labels/`` if they lead there, else by class name."""
    route = _route(source.name, target.name)
    if len(route) < 2:
        return LabelTranslation.by_name(source, target)
    sets = source, *(label_map(name) for name in route[1:-1]), target
    steps = (
        LabelTranslation.read(find_config(f"labels/{first.name}_to_{second.name}.json"), first, second)
        for first, second in pairwise(sets)
    )
    return reduce(LabelTranslation.then, steps)
