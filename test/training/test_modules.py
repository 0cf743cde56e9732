"""What networks say of a sweep, and how certain they are."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.config import TrainingConfig  # noqa: E402
from training.models.student import WRAP  # noqa: E402
from training.models.teacher import TeacherOutput  # noqa: E402
from training.modules import TeacherTraining  # noqa: E402

CONFIG = Path(__file__).parents[2] / "config" / "training" / "pandaset_teacher.yaml"


@pytest.fixture
def teacher():
    words = ["model.widths=[8, 8, 8, 8, 8]", "model.blocks=[0, 0, 0, 0]", "model.table=8"]
    return TeacherTraining(TrainingConfig.read(CONFIG, words).to_dict(), features=4).eval()


def test_a_teacher_is_certain_where_its_heads_agree(teacher, monkeypatch):
    """Three points: all heads agree; the images disagree, where they are seen; they disagree, but are not seen."""
    sure, other = [9.0, *[0.0] * 12], [0.0, 9.0, *[0.0] * 11]
    fused = lidar = torch.tensor([sure, sure, sure]).T[None]
    image = torch.tensor([sure, other, other]).T[None]
    features = torch.zeros(1, 8, 8, 64 + 2 * WRAP)
    monkeypatch.setattr(teacher.teacher, "forward", lambda *_: TeacherOutput(fused, lidar, image, features, features))
    seen = torch.zeros(1, 5, 8, 64)
    seen[0, -1, 0, :2] = 1
    sweep = {"image": torch.zeros(1, 4, 8, 64), "seen": seen, "points": torch.zeros(1, 3, 3)}
    said = teacher.say({**sweep, "pixel": torch.arange(3, dtype=torch.int32)[None]})
    assert said.beliefs[0, 0].tolist() == pytest.approx([1.0, 2 / 3, 1.0], abs=0.01)
    torch.testing.assert_close(said.beliefs.sum(dim=1), torch.ones(1, 3))
