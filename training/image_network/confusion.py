"""How often an image network says what, given the true class: its reliability, class by class.

Without any truth the shares below stand for it: what networks of street scenes usually confuse. They are rough, and
the same for all networks. From a drive without truth, they are estimated by the agreement with a student, which sees
the geometry and errs for other reasons.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.image_network.classes import ImageClasses
from xmodelkd_ros.resources import label_map

SKY = "sky"
_USUAL: Mapping[str, Mapping[str, float]] = {
    "car": {"car": 0.94, "truck": 0.03, "road": 0.02, "other_static": 0.01},
    "truck": {"car": 0.65, "truck": 0.25, "building": 0.05, "other_static": 0.03, SKY: 0.02},
    "two_wheeler": {"two_wheeler": 0.65, "person": 0.18, "car": 0.07, "other_static": 0.05, "vegetation": 0.05},
    "person": {"person": 0.75, "two_wheeler": 0.1, "building": 0.05, "other_static": 0.05, "vegetation": 0.05},
    "road": {"road": 0.84, "sidewalk": 0.12, "terrain": 0.02, "car": 0.02},
    "road_marking": {"road_marking": 0.5, "road": 0.42, "sidewalk": 0.08},
    "sidewalk": {"sidewalk": 0.62, "road": 0.25, "terrain": 0.08, "building": 0.03, "other_static": 0.02},
    "terrain": {"terrain": 0.5, "vegetation": 0.2, "sidewalk": 0.17, "road": 0.1, "other_static": 0.03},
    "vegetation": {"vegetation": 0.9, "building": 0.03, "other_static": 0.02, "terrain": 0.04, SKY: 0.01},
    "building": {"building": 0.83, "other_static": 0.07, "vegetation": 0.05, "car": 0.02, "truck": 0.01, SKY: 0.02},
    "other_static": {
        "other_static": 0.38,
        "building": 0.27,
        "vegetation": 0.16,
        "sidewalk": 0.05,
        "car": 0.04,
        "traffic_sign": 0.04,
        SKY: 0.06,
    },
    "hazard": {"hazard": 0.3, "other_static": 0.2, "road": 0.2, "person": 0.1, "car": 0.1, "sidewalk": 0.1},
    "traffic_sign": {"traffic_sign": 0.55, "other_static": 0.12, "building": 0.15, "vegetation": 0.13, SKY: 0.05},
    SKY: {SKY: 0.96, "vegetation": 0.02, "building": 0.02},
}
"""Shares of what is said of each true class of drive13, as far as the network has a class for it."""
_IN_A_SET = 0.2
"""Share of what is said of a class by groups that mean other classes too, where one means it alone: a network with
"wall" and "building" calls most buildings building."""
_ANYTHING = 0.01
"""Share of all groups together beyond those."""


_PRIOR_POINTS, _PRIOR_SHARE, _ROUNDS = 200.0, 0.3, 20
"""Weight of the usual shares of a class in the estimate: that of these points, and of this share of the class's own."""


def estimated_confusion(
    probabilities: NDArray[np.floating],
    said: NDArray[np.uint8],
    weights: NDArray[np.floating],
    usual: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(C, G) how often a network says each group of its classes, estimated without truth.

    Expectation maximisation of two observers that err independently (Dawid and Skene 1979), of which one gives
    probabilities.

    Args:
        probabilities: (N, C) of the other observer, a student.
        said: (N,) number of the group that the network says.
        weights: (N,) of the points.
        usual: (C, G) shares that are expected.
    """
    table = usual
    for _ in range(_ROUNDS):
        posterior = probabilities * table[:, said].T
        posterior *= (weights / np.maximum(posterior.sum(axis=1), 1e-9))[:, None]
        counts = np.stack([np.bincount(said, column, usual.shape[1]) for column in posterior.T])
        counts += usual * (_PRIOR_POINTS + _PRIOR_SHARE * counts.sum(axis=1, keepdims=True))
        table = counts / counts.sum(axis=1, keepdims=True)
    return np.asarray(table)


def set_confusion(classes: ImageClasses) -> NDArray[np.float64]:
    """(C, G) 1 where a group may mean a class: the network is believed, and a set of classes is their disjunction."""
    return np.where(classes.groups.means[:, :-1].T, 1.0, _ANYTHING / len(classes.groups))


def usual_confusion(classes: ImageClasses) -> NDArray[np.float64]:
    """(C + 1, G) how often a network says each group of its classes, by the true class; the last row is the sky.

    Rows sum to 1. For label sets other than drive13 the truth is what is said, but for a small share.
    """
    groups, names = classes.groups, (*classes.labels.names, SKY)
    table = np.full((len(names), len(groups)), _ANYTHING / len(groups))
    usual = _USUAL if classes.labels == label_map("drive13") else {name: {name: 1.0} for name in names}
    for row, name in enumerate(names):
        for said, share in usual[name].items():
            table[row] += share * _shares_of(groups, said)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def _shares_of(groups: ImageClasses, name: str) -> NDArray[np.float64]:
    """(G,) by which groups a class is said, 0 if the network has none for it."""
    if name == SKY:
        return np.array([float(not meant) for meant in groups.sets])
    alone = np.array([meant == (name,) for meant in groups.sets], np.float64)
    among = np.array([name in meant and len(meant) > 1 for meant in groups.sets], np.float64)
    share = _IN_A_SET if alone.any() and among.any() else float(among.any())
    return (1 - share) * alone / max(alone.sum(), 1) + share * among / max(among.sum(), 1)
