"""What networks say of a sweep, and how certain they are."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.config.training import TrainingConfig  # noqa: E402
from training.losses.contrastive import Contrast  # noqa: E402
from training.losses.segmentation import segmentation_loss  # noqa: E402
from training.models.student import WRAP  # noqa: E402
from training.models.teacher import TeacherOutput  # noqa: E402
from training.modules.point_modules import StudentModule, TeacherModule  # noqa: E402

CONFIGS = Path(__file__).parents[3] / "config" / "training"
SMALL = ["model.widths=[8, 8, 8, 8, 8]", "model.blocks=[0, 0, 0, 0]", "model.head_channels=8"]


@pytest.fixture
def teacher():
    return TeacherModule(TrainingConfig.read(CONFIGS / "pandaset_teacher.yaml", SMALL).to_dict(), features=4).eval()


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
    said = teacher.predict({**sweep, "pixel": torch.arange(3, dtype=torch.int32)[None]})
    assert said.head_mean_probs[0, 0].tolist() == pytest.approx([1.0, 2 / 3, 1.0], abs=0.01)
    torch.testing.assert_close(said.head_mean_probs.sum(dim=1), torch.ones(1, 3))


def crops(seen):
    """Three points with labels, of which cameras see one or none, and of which a teacher says something."""
    torch.manual_seed(0)
    given = {"image": torch.randn(1, 4, 16, 64 + 2 * WRAP), "points": torch.randn(1, 3, 3)}
    given |= {"seen": torch.zeros(1, 5, 16, 64 + 2 * WRAP), "views": torch.zeros(1, 3, 2, 5)}
    given["seen"][:, -1, 0, WRAP] = seen
    given |= {"pixel": torch.arange(3, dtype=torch.int32)[None], "labels": torch.tensor([[0, 1, 2]], dtype=torch.uint8)}
    return given | {"teacher_logits": torch.randn(1, 3, 13).half()}


def test_the_image_head_learns_from_what_cameras_see(teacher, monkeypatch):
    monkeypatch.setattr(teacher, "log", lambda *_, **__: None)
    monkeypatch.setattr(teacher, "log_dict", lambda *_, **__: None)
    fused, lidar, image = (torch.randn(1, 13, 3) for _ in range(3))
    features = torch.zeros(1, 8, 16, 64 + 2 * WRAP)
    monkeypatch.setattr(teacher.teacher, "forward", lambda *_: TeacherOutput(fused, lidar, image, features, features))
    labels, weights = crops(0)["labels"], torch.ones(13)
    blind = segmentation_loss(fused, labels, weights) + 0.5 * segmentation_loss(lidar, labels, weights)
    torch.testing.assert_close(teacher.loss(crops(0)), blind)
    sighted = blind + 0.2 * segmentation_loss(image[..., :1], labels[:, :1], weights)
    torch.testing.assert_close(teacher.loss(crops(1)), sighted)


def test_a_student_never_looks_at_an_image(monkeypatch):
    """What cameras see changes neither its logits nor its loss, until the contrast asks for it."""
    config = CONFIGS / "pandaset_distilled.yaml"
    for weight, same in ((0, True), (1, False)):
        torch.manual_seed(0)
        words = [*SMALL, f"distill.contrast_weight={weight}"]
        student = StudentModule(TrainingConfig.read(config, words).to_dict(), 8, 4 if weight else 0).eval()
        monkeypatch.setattr(student, "log_dict", lambda *_, **__: None)
        monkeypatch.setattr(StudentModule, "global_step", 10_000)
        blind, sighted = crops(0), crops(1)
        sighted["views"] = torch.ones_like(sighted["views"])
        sighted["views"][..., :-1] = torch.randn(1, 3, 2, 4)
        assert (student.loss(blind).item() == student.loss(sighted).item()) is same
        whole = [{**given, "image": given["image"][..., WRAP:-WRAP]} for given in (blind, sighted)]
        assert torch.equal(*(student.predict(given).logits for given in whole))


def test_what_a_teacher_says_counts_more_and_more(monkeypatch):
    words = ["distill.ramp=0.5", "distill.logits_weight=2", "distill.lovasz_weight=1"]
    config = TrainingConfig.read(CONFIGS / "pandaset_distilled.yaml", [*SMALL, *words])
    student = StudentModule(config.to_dict(), 8).eval()
    monkeypatch.setattr(student, "log_dict", lambda *_, **__: None)
    steps = config.optimizer.epochs * config.optimizer.steps

    def loss(step):
        monkeypatch.setattr(StudentModule, "global_step", step)
        return student.loss(crops(0)).item()

    begin, half, whole, end = (loss(step) for step in (0, steps // 4, steps // 2, steps))
    assert whole > begin + 0.1
    assert half - begin == pytest.approx((whole - begin) / 2, rel=1e-3)
    assert end == pytest.approx(whole)


def test_the_contrast_is_between_what_is_seen():
    torch.manual_seed(0)
    contrast = Contrast(width=4, features=3, temperature=0.1)
    points, views = torch.randn(2, 5, 4), torch.randn(2, 5, 2, 4)
    views[..., -1] = 0
    views[0, 1:4, 0, -1] = views[1, 2, 1, -1] = 1
    loss = contrast(points, views)
    assert loss.item() > 0
    others, unseen = points.clone(), views[..., -1] == 0
    others[0, [0, 4]] = torch.randn(2, 4)
    views[..., :-1][unseen] = torch.randn(int(unseen.sum()), 3)
    assert torch.equal(contrast(others, views), loss), "what no camera sees says nothing"
    views[1, 2, 1, -1] = 0
    assert not torch.equal(contrast(points, views), loss)


@pytest.mark.parametrize("seen", [0, 1])
def test_one_point_has_nothing_to_be_told_from(seen):
    points, views = torch.randn(1, 5, 4, requires_grad=True), torch.zeros(1, 5, 2, 4)
    views[0, :seen, 0, -1] = 1
    loss = Contrast(width=4, features=3, temperature=0.1)(points, views)
    loss.backward()
    assert loss.item() == 0 and not points.grad.any()
