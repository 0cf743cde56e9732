"""Loss on what an image network sees: sets of classes, and its reliability."""

import pytest

torch = pytest.importorskip("torch")

from training.losses.image_labels import image_label_loss  # noqa: E402

SETS = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
"""Three classes; the network tells the third from the first two only."""


def test_loss_of_a_set_is_that_of_its_summed_probability():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    loss = image_label_loss(logits, torch.tensor([0, 1]), torch.tensor([1.0, 3.0]), SETS)
    expected = -(torch.log(torch.tensor(0.8)) + 3 * torch.log(torch.tensor(0.8))) / 4
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_gradient_leaves_the_shares_within_a_set_alone():
    logits = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    image_label_loss(logits, torch.tensor([0]), torch.ones(1), SETS).backward()
    first, second, third = logits.grad[0].tolist()
    assert first / second == pytest.approx(float(torch.exp(torch.tensor(1.0))), rel=1e-4) and first < 0 < third


def test_unreliable_answers_pull_less():
    logits = torch.zeros((1, 3))
    said, weight = torch.tensor([1]), torch.ones(1)
    gradients = []
    for right in (0.9, 0.5):
        student = logits.clone().requires_grad_()
        confusion = torch.tensor([[1 - 0.1, 0.1], [0.9, 0.1], [1 - right, right]])
        image_label_loss(student, said, weight, confusion).backward()
        gradients.append(-float(student.grad[0, 2]))
    assert gradients[0] > gradients[1] > 0


def test_no_points():
    loss = image_label_loss(torch.zeros((0, 3)), torch.zeros(0, dtype=torch.uint8), torch.zeros(0), SETS)
    assert float(loss) == 0
