import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.losses.contrastive import contrastive  # noqa: E402
from training.losses.segmentation import class_weights, divergence, lovasz_softmax, segmentation_loss  # noqa: E402


def jaccard_loss(target, predicted, c):
    """1 - IoU of a class, from its definition."""
    union = ((target == c) | (predicted == c)).sum()
    return 1 - ((target == c) & (predicted == c)).sum() / union if union else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_lovasz_of_one_hot_predictions_is_the_jaccard_loss(seed):
    """The extension equals the set function on the corners of the cube (Berman et al. 2018, prop. 1)."""
    rng = np.random.default_rng(seed)
    target, predicted = rng.integers(0, 4, 40), rng.integers(0, 4, 40)
    loss = lovasz_softmax(torch.eye(4)[predicted], torch.from_numpy(target))
    expected = np.mean([jaccard_loss(target, predicted, c) for c in np.unique(target)])
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_lovasz_of_soft_predictions_matches_its_definition():
    """The sum over sorted errors of error times the increment of the set function."""
    target = torch.tensor([0, 1, 0, 1, 1])
    probability = torch.tensor([0.9, 0.3, 0.4, 0.8, 0.1])  # of class 0
    losses = []
    for c, p in ((0, probability), (1, 1 - probability)):
        truth = (target == c).numpy()
        errors = np.where(truth, 1 - p.numpy(), p.numpy())
        order = np.argsort(-errors)
        steps, wrong, before = [], np.zeros(5, bool), 0.0
        for i in order:
            wrong[i] = True
            delta = wrong.sum() / (truth | wrong).sum()
            steps.append(delta - before)
            before = delta
        losses.append((errors[order] * steps).sum())
    actual = lovasz_softmax(torch.stack([probability, 1 - probability], dim=1), target)
    assert actual.item() == pytest.approx(np.mean(losses), abs=1e-6)


def test_lovasz_decreases_as_predictions_improve():
    target = torch.tensor([0, 1, 2, 1])
    certain = torch.eye(3)[target]
    values = [lovasz_softmax(a * certain + (1 - a) / 3, target).item() for a in (0.0, 0.5, 1.0)]
    assert values[0] > values[1] > values[2] == pytest.approx(0, abs=1e-6)


def test_class_weights_are_limited_to_eight():
    weights = class_weights(torch.tensor([400.0, 100.0, 1.0, 0.0]))
    assert weights.tolist() == [1.0, 2.0, 8.0, 8.0], "a class that does not occur has the largest weight"


def test_unlabelled_points_do_not_count():
    logits, labels = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8), dtype=torch.uint8)
    expected = segmentation_loss(logits, labels, torch.ones(3))
    hidden = torch.cat([labels, torch.full((2, 4), 255, dtype=torch.uint8)], dim=1)
    actual = segmentation_loss(torch.cat([logits, torch.randn(2, 3, 4)], dim=2), hidden, torch.ones(3))
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)


def test_crop_without_labels_gives_no_gradient():
    logits = torch.randn(1, 3, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 8), 255, dtype=torch.uint8), torch.ones(3))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_cross_entropy_is_weighted_by_class():
    """Two points, probabilities 1/4 and 3/4: of the first class with weight 3, and of the second."""
    logits = torch.log(torch.tensor([[[0.25, 0.25], [0.75, 0.75]]]))
    labels = torch.tensor([[0, 1]], dtype=torch.uint8)
    probabilities = logits.exp()[0].T
    lovasz = lovasz_softmax(probabilities, labels[0].long())
    actual = segmentation_loss(logits, labels, torch.tensor([3.0, 1.0])) - lovasz
    assert actual.item() == pytest.approx((3 * np.log(4) + np.log(4 / 3)) / 4, rel=1e-5)


def test_segmentation_loss_does_not_depend_on_the_order_of_points():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 30), torch.randint(0, 3, (1, 30), dtype=torch.uint8)
    order, weights = torch.randperm(30), torch.tensor([1.0, 2.0, 8.0])
    assert not torch.equal(labels, labels[:, order])
    one, other = (
        segmentation_loss(x, y, weights) for x, y in ((logits, labels), (logits[..., order], labels[:, order]))
    )
    torch.testing.assert_close(one, other)


def test_contrastive_loss_is_small_for_matching_and_large_for_shuffled_pairs():
    torch.manual_seed(0)
    features, each = torch.nn.functional.normalize(torch.randn(64, 16), dim=1), torch.arange(64)
    assert contrastive(features, features, each, 0.07) < 0.1
    assert contrastive(features, features.roll(1, dims=0), each, 0.07) > 5
    unrelated = torch.nn.functional.normalize(torch.randn(64, 16), dim=1)
    assert contrastive(features, unrelated, each, 1e6) == pytest.approx(np.log(64), rel=1e-3), (
        "at a high temperature all pairs look alike"
    )


def test_contrastive_loss_with_a_point_in_two_cameras():
    lidar = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    image, point = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], requires_grad=True), torch.tensor([0, 0, 1])
    e = np.exp
    to_views = (-np.log(e(1) / (e(1) + e(0.6) + 1)) - np.log(e(0.6) / (e(1) + e(0.6) + 1))) / 2
    to_views = (to_views - np.log(e(1) / (1 + e(0.8) + e(1)))) / 2
    to_points = -np.mean(np.log([e(1) / (e(1) + 1), e(0.6) / (e(0.6) + e(0.8)), e(1) / (e(1) + 1)]))
    to_other_view = -np.mean(np.log([e(0.6) / (e(0.6) + 1), e(0.6) / (e(0.6) + e(0.8))]))
    loss = contrastive(lidar, image, point, 1.0)
    assert loss.item() == pytest.approx((to_views + to_points + to_other_view) / 3, rel=1e-5)
    loss.backward()
    assert torch.isfinite(image.grad).all()


def test_divergence_is_a_weighted_mean_over_points():
    torch.manual_seed(0)
    student, teacher, weights = torch.randn(7, 4), torch.randn(7, 4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    each = (p * (p.log() - q.log())).sum(dim=1)
    weight = weights[teacher.argmax(dim=1)]
    torch.testing.assert_close(divergence(student, teacher, weights), (weight * each).sum() / weight.sum())
    torch.testing.assert_close(divergence(teacher + 3, teacher, weights), torch.tensor(0.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", [divergence, segmentation_loss, contrastive, lovasz_softmax])
def test_losses_are_computed_in_fp32_under_autocast(loss):
    """For nearly equal logits, bf16 would give negative divergences."""
    torch.manual_seed(0)
    teacher = torch.randn(500, 13)
    student = teacher + 0.02 * torch.randn(500, 13)
    unit = torch.nn.functional.normalize(student, dim=1)
    given = {
        divergence: (student, teacher, torch.ones(13)),
        segmentation_loss: (student.T[None], torch.randint(13, (1, 500)), torch.ones(13)),
        contrastive: (unit, torch.nn.functional.normalize(teacher, dim=1), torch.arange(500), 0.07),
        lovasz_softmax: (student.softmax(dim=1), torch.randint(13, (500,))),
    }[loss]
    with torch.autocast("cpu", torch.bfloat16):
        actual = loss(*given)
    torch.testing.assert_close(actual, loss(*given), rtol=0, atol=0)
    assert actual > 0
