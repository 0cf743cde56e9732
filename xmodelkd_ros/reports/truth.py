"""Ground truth of another label set than the model's: translation into the scored set, and notes on what differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import listed
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.resources import has_table, translation

_OFTEN = 0.01
"""Share of the labelled points above which a class that the truth lacks is worth a note."""


@dataclass(frozen=True, eq=False)
class TruthTranslation:
    """From the labels of a drive to those of the scores.

    Attributes:
        truth: the drive's label set.
        model: the model's.
        scored: that of the scores.
        lookup: (256,) scored id of each id of the drive; 255 if not scored.
    """

    truth: LabelMap
    model: LabelMap
    scored: LabelMap
    lookup: NDArray[np.uint8]

    @classmethod
    def of(cls, truth: LabelMap, model: LabelMap, scored: LabelMap) -> TruthTranslation:
        """Directly if the sets are the same or tables lead there; else by name, or through the model's set."""
        if truth.name == scored.name or has_table(truth, scored):
            return cls(truth, model, scored, translation(truth, scored).lookup)
        through_model = translation(model, scored).lookup[translation(truth, model).lookup]
        same = [c.id for c in truth.classes if any(scored.has_class(name) for name in (c.name, *c.aliases))]
        lookup = through_model.copy()
        if same:
            lookup[same] = LabelTranslation.by_name(truth, scored).lookup[same]
        return cls(truth, model, scored, lookup)

    def notes(self, confusion: ConfusionMatrix) -> list[str]:
        """What the mean IoU leaves out, and classes that are often predicted, but that the truth never has.

        Args:
            confusion: the scores.
        """
        true, predicted = confusion.counts.sum(axis=1), confusion.counts.sum(axis=0)
        notes = self._few(confusion)
        for position, c in enumerate(self.scored.classes):
            share = predicted[position] / max(1, true.sum())
            if true[position] == 0 and share >= _OFTEN:
                instead = self.scored.classes[int(confusion.counts[:, position].argmax())].name
                notes.append(
                    f"{c.name} is predicted for {share:.1%} of the labelled points, but the ground truth never has it: "
                    f"these count as errors, mostly of {instead}{self._remedy(c.name, true)}"
                )
        return notes

    def _few(self, confusion: ConfusionMatrix) -> list[str]:
        """A line that names the classes with too few points to count, if there are any."""
        limit = self.scored.min_points
        few = [f"{name} ({count})" for name, count in confusion.points.items() if 0 < count < limit]
        text = f"left out of the mean IoU, with fewer than {limit} points of ground truth: {listed(few)}"
        return [text] if few else []

    def _remedy(self, name: str, true: NDArray[np.int64]) -> str:
        """The drive's own set, if its table from the model's set merges a class with one that the truth has."""
        if self.scored.name == self.truth.name or not has_table(self.model, self.truth):
            return ""
        instead = translation(self.model, self.truth).table.get(name)
        occurring = {c.id for c, count in zip(self.scored.classes, true, strict=False) if count}
        if instead is None or self.lookup[self.truth.id_of(instead)] not in occurring:
            return ""
        return f"; with --label-set {self.truth.name} they count as {instead}"
