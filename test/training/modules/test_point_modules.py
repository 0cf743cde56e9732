"""Losses and predictions of student and teacher."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.config.training import TrainingConfig  # noqa: E402
from training.losses.contrastive import Contrast  # noqa: E402
from training.losses.segmentation import segmentation_loss  # noqa: E402
from training.models.student import WRAP  # noqa: E402
from training.models.teacher import TeacherOutput  # noqa: E402
from training.modules.point_modules import StudentModule, TeacherModule  # noqa: E402
from xmodelkd_ros.core.labels import IGNORE  # noqa: E402

CONFIGS = Path(__file__).parents[3] / "config" / "training"
SMALL = ["model.widths=[8, 8, 8, 8, 8]", "model.blocks=[0, 0, 0, 0]", "model.head_channels=8"]


@pytest.fixture
def teacher():
    return TeacherModule(TrainingConfig.read(CONFIGS / "pandaset_teacher.yaml", SMALL).to_dict(), features=4).eval()


def test_head_mean_probs_are_high_where_visible_heads_agree(teacher, monkeypatch):
    """Three points: all heads agree; the image head disagrees on a visible point; it disagrees on an invisible one."""
    first, second = [9.0, *[0.0] * 12], [0.0, 9.0, *[0.0] * 11]
    fused = lidar = torch.tensor([first, first, first]).T[None]
    image = torch.tensor([first, second, second]).T[None]
    features = torch.zeros(1, 8, 8, 64 + 2 * WRAP)
    monkeypatch.setattr(teacher.teacher, "forward", lambda *_: TeacherOutput(fused, lidar, image, features, features))
    seen = torch.zeros(1, 5, 8, 64)
    seen[0, -1, 0, :2] = 1
    sweep = {"image": torch.zeros(1, 4, 8, 64), "seen": seen, "points": torch.zeros(1, 3, 3)}
    prediction = teacher.predict({**sweep, "pixel": torch.arange(3, dtype=torch.int32)[None]})
    assert prediction.head_mean_probs[0, 0].tolist() == pytest.approx([1.0, 2 / 3, 1.0], abs=0.01)
    torch.testing.assert_close(prediction.head_mean_probs.sum(dim=1), torch.ones(1, 3))


def crops(visible):
    """Three labelled points with teacher logits; the first is visible to a camera if ``visible`` is 1."""
    torch.manual_seed(0)
    given = {"image": torch.randn(1, 4, 16, 64 + 2 * WRAP), "points": torch.randn(1, 3, 3)}
    given |= {"seen": torch.zeros(1, 5, 16, 64 + 2 * WRAP), "views": torch.zeros(1, 3, 2, 5)}
    given["seen"][:, -1, 0, WRAP] = visible
    given |= {"pixel": torch.arange(3, dtype=torch.int32)[None], "labels": torch.tensor([[0, 1, 2]], dtype=torch.uint8)}
    return given | {"teacher_logits": torch.randn(1, 3, 13).half()}


def test_image_head_loss_covers_visible_points_only(teacher, monkeypatch):
    monkeypatch.setattr(teacher, "log", lambda *_, **__: None)
    monkeypatch.setattr(teacher, "log_dict", lambda *_, **__: None)
    fused, lidar, image = (torch.randn(1, 13, 3) for _ in range(3))
    features = torch.zeros(1, 8, 16, 64 + 2 * WRAP)
    monkeypatch.setattr(teacher.teacher, "forward", lambda *_: TeacherOutput(fused, lidar, image, features, features))
    labels, weights = crops(0)["labels"], torch.ones(13)
    without_images = segmentation_loss(fused, labels, weights) + 0.5 * segmentation_loss(lidar, labels, weights)
    torch.testing.assert_close(teacher.loss(crops(0)), without_images)
    with_images = without_images + 0.2 * segmentation_loss(image[..., :1], labels[:, :1], weights)
    torch.testing.assert_close(teacher.loss(crops(1)), with_images)


def test_student_uses_no_images(monkeypatch):
    """Image features change neither its logits nor its loss, except for the contrastive loss."""
    config = CONFIGS / "pandaset_distilled.yaml"
    for weight, same in ((0, True), (1, False)):
        torch.manual_seed(0)
        words = [*SMALL, f"distill.contrast_weight={weight}"]
        student = StudentModule(TrainingConfig.read(config, words).to_dict(), 8, 4 if weight else 0).eval()
        monkeypatch.setattr(student, "log_dict", lambda *_, **__: None)
        monkeypatch.setattr(StudentModule, "global_step", 10_000)
        without, with_images = crops(0), crops(1)
        with_images["views"] = torch.ones_like(with_images["views"])
        with_images["views"][..., :-1] = torch.randn(1, 3, 2, 4)
        assert (student.loss(without).item() == student.loss(with_images).item()) is same
        whole = [{**given, "image": given["image"][..., WRAP:-WRAP]} for given in (without, with_images)]
        assert torch.equal(*(student.predict(given).logits for given in whole))


def train(module, batch, steps, learning_rate=0.01):
    """Losses of a module trained on one batch."""
    optimizer, losses = torch.optim.AdamW(module.parameters(), learning_rate), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = module.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def batch_of_points(count=200):
    """Random points with labels, image features and teacher logits, some of them visible to a camera."""
    generator = torch.Generator().manual_seed(0)
    pixel = torch.randperm(16 * 64, generator=generator)[:count].int()[None]
    seen = torch.randn(1, 5, 16, 64 + 2 * WRAP, generator=generator)
    seen[:, -1] = (seen[:, -1] > 0).float()
    views = torch.randn(1, count, 2, 5, generator=generator)
    views[..., -1] = (views[..., -1] > 0).float()
    return {
        "image": torch.randn(1, 4, 16, 64 + 2 * WRAP, generator=generator),
        "points": torch.randn(1, count, 3, generator=generator),
        "pixel": pixel,
        "seen": seen,
        "views": views,
        "labels": torch.randint(0, 13, (1, count), generator=generator, dtype=torch.uint8),
        "teacher_logits": 3 * torch.randn(1, count, 13, generator=generator).half(),
    }


def test_student_learns_the_teachers_classes_on_unlabelled_points(monkeypatch):
    torch.manual_seed(0)
    words = ["distill.logits_weight=1", "distill.lovasz_weight=0"]
    student = StudentModule(TrainingConfig.read(CONFIGS / "pandaset_distilled.yaml", [*SMALL, *words]).to_dict(), 8)
    monkeypatch.setattr(student, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(StudentModule, "global_step", 10_000)
    batch = batch_of_points()
    batch["labels"] = torch.full_like(batch["labels"], IGNORE)

    def agreement():
        with torch.inference_mode():
            features = student.student.dense(batch["image"])
            logits = student.student.head(features, batch["image"], batch["points"], batch["pixel"])
        return (logits.argmax(1) == batch["teacher_logits"].argmax(2)).float().mean().item()

    before, losses = agreement(), train(student, batch, steps=60)
    assert losses[-1] < 0.7 * losses[0]
    assert agreement() > before + 0.2


def test_all_heads_of_the_teacher_learn_the_labels(teacher, monkeypatch):
    torch.manual_seed(0)
    logged = []
    monkeypatch.setattr(teacher, "log", lambda name, value: logged.append((name, value.item())))
    monkeypatch.setattr(teacher, "log_dict", lambda values: logged.extend((k, v.item()) for k, v in values.items()))
    losses = train(teacher.train(), batch_of_points(), steps=60)
    assert losses[-1] < 0.8 * losses[0]
    for name in ("train/fused", "train/lidar", "train/image", "train/contrast"):
        values = [value for logged_name, value in logged if logged_name == name]
        assert values[-1] < 0.9 * values[0], name


def test_distillation_losses_ramp_up(monkeypatch):
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


def test_contrastive_loss_covers_visible_points_only():
    torch.manual_seed(0)
    contrast = Contrast(width=4, features=3, temperature=0.1)
    points, views = torch.randn(2, 5, 4), torch.randn(2, 5, 2, 4)
    views[..., -1] = 0
    views[0, 1:4, 0, -1] = views[1, 2, 1, -1] = 1
    loss = contrast(points, views)
    assert loss.item() > 0
    others, invisible = points.clone(), views[..., -1] == 0
    others[0, [0, 4]] = torch.randn(2, 4)
    views[..., :-1][invisible] = torch.randn(int(invisible.sum()), 3)
    assert torch.equal(contrast(others, views), loss), "invisible points and views do not count"
    views[1, 2, 1, -1] = 0
    assert not torch.equal(contrast(points, views), loss)


@pytest.mark.parametrize("visible", [0, 1])
def test_contrastive_loss_needs_two_points(visible):
    points, views = torch.randn(1, 5, 4, requires_grad=True), torch.zeros(1, 5, 2, 4)
    views[0, :visible, 0, -1] = 1
    loss = Contrast(width=4, features=3, temperature=0.1)(points, views)
    loss.backward()
    assert loss.item() == 0 and not points.grad.any()
