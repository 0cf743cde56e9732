"""Look at an image network before trusting it: its classes over the images of a drive, and on the points they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.feature_bank import ImageFeatures
from training.data.sources import Source
from training.image_network.classes import ImageClasses
from training.image_network.pictures import classes_over_image, group_color, points_over_image
from training.image_network.reader import NetworkReader
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.visibility import NO_CAMERA
from xmodelkd_ros.reports.attribution import credit
from xmodelkd_ros.reports.html import bar, figure_section, html_table, number, warning_lines, write_page
from xmodelkd_ros.reports.scores import write_metrics

REPORT, METRICS = "report.html", "metrics.json"
"""Width of an image in the report, pixels."""
_SHOWN = 4
"""Sweeps with pictures."""
_RARE, _LOW = 0.002, 0.5
"""Share of points from which a class counts, and agreement below which a warning names it."""


@dataclass(frozen=True, eq=False)
class CheckedSweep:
    """What a network sees of a sweep.

    Attributes:
        cloud: the sweep.
        features: the class probabilities at its points.
        student: (N,) class ids that the student gives the points.
    """

    cloud: PointCloud
    features: ImageFeatures
    student: NDArray[np.uint8]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(N,) which points an image shows."""
        return np.asarray(self.features.camera[:, 0] != NO_CAMERA)

    @property
    def said(self) -> NDArray[np.intp]:
        """(N,) the most probable group of classes of each point; undefined where no image shows it."""
        return np.asarray(self.features.features[:, 0].argmax(axis=1))


def check(reader: NetworkReader, source: Source, labels: Sequence[NDArray[np.uint8]], out: Path) -> dict[str, Any]:
    """Compare what a network sees with what a student says, and write pictures; returns ``metrics.json``.

    Args:
        reader: of the network.
        source: sweeps with images.
        labels: (N,) class ids of the student for each sweep, in the network's label set.
        out: folder of the report.

    Raises:
        ConfigError: no image shows a point of its sweep.
    """
    sweeps = [
        CheckedSweep(sweep.cloud, features, own)
        for sweep, features, own in zip(
            source.sweeps, reader.point_features(source.encoded_images), labels, strict=True
        )
    ]
    if not any(sweep.seen.any() for sweep in sweeps):
        raise ConfigError(
            f"{source.config}: no image shows a point of its sweep; record CameraInfo and /tf_static too, with clocks "
            "that agree"
        )
    make_folder(out)
    metrics = _metrics(reader.classes, sweeps)
    metrics |= {"network": str(reader.answers.network.folder), "drive": str(source.config)}
    write_metrics(out, metrics)
    _write_report(reader, source, sweeps, metrics, out)
    return metrics


def _metrics(classes: ImageClasses, sweeps: Sequence[CheckedSweep]) -> dict[str, Any]:
    groups = classes.groups
    seen = [sweep.seen for sweep in sweeps]
    said = np.concatenate([sweep.said[mask] for sweep, mask in zip(sweeps, seen, strict=True)])
    student = np.concatenate([sweep.student[mask] for sweep, mask in zip(sweeps, seen, strict=True)])
    counts = np.zeros((len(groups), IGNORE + 1), np.int64)
    np.add.at(counts, (said, student), 1)
    ids = [c.id for c in classes.labels.classes]
    counts = counts[:, ids]
    agreeing = counts * groups.means[:, :-1]
    rows = {
        name: {
            "share": float(counts[k].sum() / max(counts.sum(), 1)),
            "agreement": float(agreeing[k].sum() / counts[k].sum()) if counts[k].any() and groups.sets[k] else None,
            "student": {own: float(v) for own, v in _largest(classes.labels.names, counts[k])},
        }
        for k, name in enumerate(groups.names)
    }
    meant = counts[[bool(meaning) for meaning in groups.sets]]
    points = sum(len(mask) for mask in seen)
    return {
        "sweeps": len(sweeps),
        "visible": float(sum(int(mask.sum()) for mask in seen) / max(points, 1)),
        "agreement": float(agreeing.sum() / max(meant.sum(), 1)),
        "classes": rows,
    }


def _largest(names: Sequence[str], counts: NDArray[np.int64]) -> list[tuple[str, float]]:
    """The three largest shares, with names."""
    total = max(int(counts.sum()), 1)
    order = np.argsort(-counts, kind="stable")[:3]
    return [(names[k], counts[k] / total) for k in order if counts[k]]


def warnings_of(metrics: Mapping[str, Any]) -> list[str]:
    """What speaks against trusting the network on this drive, one line each."""
    if metrics["visible"] < 0.01:
        return [f"images show {metrics['visible']:.1%} of the points; check the cameras' calibration and clocks"]
    found = [
        f"where it sees {name}, the student says {', '.join(row['student'])} "
        f"(agreement {row['agreement']:.0%} on {row['share']:.1%} of the points)"
        for name, row in metrics["classes"].items()
        if row["agreement"] is not None and row["share"] >= _RARE and row["agreement"] < _LOW
    ]
    never = metrics["classes"].get("never")
    if never and never["share"] > 0.1:
        found.append(f"it says of {never['share']:.0%} of the points what no LiDAR measures, such as sky")
    return found


def _write_report(
    reader: NetworkReader, source: Source, sweeps: Sequence[CheckedSweep], metrics: Mapping[str, Any], out: Path
) -> None:
    network = reader.answers.network
    drive = Path(source.config.path).name
    shown = credit(drive, source.origin, network.config.name, network.origins)
    title = f"{network.config.name} on {drive}"
    rows = [
        (
            _swatch(group_color(reader.classes, k), group),
            bar(row["share"]),
            f"{row['share']:.1%}",
            number(row["agreement"], 2),
            escape(", ".join(f"{own} {share:.0%}" for own, share in row["student"].items())),
        )
        for k, (group, row) in enumerate(metrics["classes"].items())
    ]
    sections = [
        f"<h1>{escape(title)}</h1>",
        warning_lines(warnings_of(metrics)),
        f"<p>{metrics['sweeps']} sweeps, of whose points images show {metrics['visible']:.0%}. Of these, the network "
        f"and the student agree on {metrics['agreement']:.0%}.</p>",
        "<h2>Classes on the points</h2>",
        html_table(("the network sees", "", "share of points", "agreement", "where the student says"), rows),
        *_pictures(reader, source, sweeps, out),
        f"<footer><p>{escape(shown)}</p></footer>",
    ]
    write_page(out / REPORT, title, sections)


def _pictures(reader: NetworkReader, source: Source, sweeps: Sequence[CheckedSweep], out: Path) -> Iterator[str]:
    palette = np.array([group_color(reader.classes, k) for k in range(len(reader.classes.groups))], np.uint8)
    shown = np.unique(np.linspace(0, len(sweeps) - 1, _SHOWN).round().astype(int))
    for k in shown:
        images = source.images(int(k))
        assert images
        for camera, pixels in enumerate(images.pixels):
            if pixels is not None:
                file = f"sweep_{k}_camera_{camera}.jpg"
                answer = reader.classes_of(source.encoded_images[k].jpegs[camera])
                points, slots = np.nonzero(images.views.camera == camera)
                said = palette[sweeps[k].features.features[points, slots].argmax(axis=1)]
                over = points_over_image(pixels, images.views.uv[points, slots], said)
                picture = np.hstack([classes_over_image(reader.classes, pixels, answer), over])
                Image.fromarray(picture).save(out / file, quality=88)
                caption = "Left: classes of the pixels. Right: the same read at the points that the image shows."
                yield figure_section(f"Sweep {k + 1} of {len(sweeps)}, camera {camera + 1}", file, caption)


def _swatch(color: tuple[int, int, int], name: str) -> str:
    red, green, blue = color
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>{escape(name)}'
