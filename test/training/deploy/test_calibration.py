"""The temperature of a network's probabilities."""

import numpy as np
import pytest

pytest.importorskip("torch")

from training.deploy.calibration import fit_temperature


def test_temperature_calibrates_the_probabilities():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 20000)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    labels = np.array([rng.choice(4, p=p / p.sum()) for p in probabilities.T.astype(np.float64)], np.uint8)
    assert fit_temperature([logits * 3], [labels]) == pytest.approx(3, rel=0.05)
    labels[:100] = 255
    assert fit_temperature([logits * 3], [labels]) == pytest.approx(3, rel=0.05)
