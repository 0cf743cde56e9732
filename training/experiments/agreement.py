"""How well labels agree with others, over all points and over those that a camera sees."""

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
    source: Source, labels: Iterable[NDArray[np.uint8]], others: Iterable[NDArray[np.uint8]], scored: LabelMap
) -> dict[str, ConfusionMatrix]:
    """Confusion over ``all`` points, and over those ``seen`` by a camera.

    Args:
        source: the sweeps.
        labels: (N,) class ids of each sweep's points, 255 where they got none, which counts as wrong.
        others: (N,) ids that they are compared with, 255 where nothing is known.
        scored: the label set in which they are compared.
    """
    lookup = translation(label_map(LABELS), scored)
    found = {part: ConfusionMatrix(scored) for part in ("all", "seen")}
    for number, (own, other) in enumerate(zip(labels, others, strict=True)):
        seen = source.seen(number)
        predicted, truth = lookup.apply(own), lookup.apply(other)
        found["all"].update(truth, predicted)
        found["seen"].update(truth[seen], predicted[seen])
    return found
