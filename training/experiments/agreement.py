"""Agreement between two labellings, over all points and over the points in a camera's view."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from training.config.label_sets import LABELS
from training.data.sources import Source
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.resources import label_map, translation


def confusions(
    source: Source, labels: Iterable[NDArray[np.uint8]], references: Iterable[NDArray[np.uint8]], scored: LabelMap
) -> dict[str, ConfusionMatrix]:
    """Confusion matrices over ``all`` points, and over those ``seen`` by a camera.

    Args:
        source: the sweeps.
        labels: (N,) class ids of each sweep's points; 255, no label, counts as wrong.
        references: (N,) class ids to compare with; points with 255 are not counted.
        scored: the label set in which they are compared.
    """
    lookup = translation(label_map(LABELS), scored)
    matrices = {part: ConfusionMatrix(scored) for part in ("all", "seen")}
    for number, (own, reference) in enumerate(zip(labels, references, strict=True)):
        seen = source.visible_points(number)
        predicted, truth = lookup.apply(own), lookup.apply(reference)
        matrices["all"].update(truth, predicted)
        matrices["seen"].update(truth[seen], predicted[seen])
    return matrices
