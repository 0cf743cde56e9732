import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.models.image_branch import IMAGE_SIZE, ImageBranch, sample  # noqa: E402
from training.models.student import WRAP, Student  # noqa: E402
from training.models.teacher import Teacher  # noqa: E402

FEATURES, CLASSES = 8, 5


@pytest.fixture(scope="module")
def branch():
    torch.manual_seed(0)
    return ImageBranch(FEATURES, CLASSES).eval()


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    student = Student(3, CLASSES, (8, 8, 8, 8, 8), (0, 0, 0, 0), 8)
    return Teacher(student, FEATURES, 8).eval()


@pytest.fixture
def teacher_logits(teacher):
    """One that has learnt something from images."""
    torch.nn.init.normal_(teacher.head.classify.weight)
    return teacher


def inputs(seed=0, seen=True):
    rng = np.random.default_rng(seed)
    width = 64 + 2 * WRAP
    image = torch.from_numpy(rng.normal(size=(1, 4, 16, width)).astype(np.float32))
    colour = torch.from_numpy(rng.normal(size=(1, FEATURES + 1, 16, width)).astype(np.float32))
    colour[:, -1] = float(seen)
    points = torch.from_numpy(rng.normal(size=(1, 50, 3)).astype(np.float32))
    return image, colour, points, torch.from_numpy(rng.integers(0, 16 * 64, (1, 50)).astype(np.int32))


def test_a_teacher_begins_as_its_student(teacher):
    said = teacher(*inputs())
    torch.testing.assert_close(said.fused, said.lidar)


def test_every_point_gets_logits_from_each_head(teacher_logits):
    image, colour, points, pixel = inputs()
    said = teacher_logits(image, colour, points, pixel)
    assert said.fused.shape == said.lidar.shape == said.image.shape == (1, CLASSES, 50)
    assert not torch.allclose(said.fused, said.lidar)
    other = teacher_logits(image + 1, colour, points, pixel)
    assert not torch.allclose(said.fused, said.lidar)
    torch.testing.assert_close(other.image, said.image, msg="the image head sees no range image")
    assert not torch.allclose(other.lidar, said.lidar)


def test_without_cameras_image_features_change_nothing(teacher_logits):
    image, colour, points, pixel = inputs(seen=False)
    other = colour.clone()
    other[:, :-1] += 3
    torch.testing.assert_close(
        teacher_logits(image, colour, points, pixel).fused, teacher_logits(image, other, points, pixel).fused
    )


def test_images_change_what_is_said_but_not_what_the_lidar_branch_says(teacher_logits):
    image, colour, points, pixel = inputs()
    other = colour.clone()
    other[:, :-1] += 3
    one, two = teacher_logits(image, colour, points, pixel), teacher_logits(image, other, points, pixel)
    assert not torch.allclose(one.fused, two.fused)
    torch.testing.assert_close(one.lidar, two.lidar)


def test_features_have_stride_four(branch):
    found = branch(torch.zeros(2, 3, 64, 96))
    assert found.shape == (2, FEATURES, 16, 24)
    assert all(side % 32 == 0 for side in IMAGE_SIZE)


def test_the_encoder_keeps_its_statistics(branch):
    before = branch.encoder._bn0.running_mean.clone()
    branch.train()
    branch(torch.rand(2, 3, 64, 96) * 255)
    branch.eval()
    torch.testing.assert_close(branch.encoder._bn0.running_mean, before)


def test_places_are_read_where_they_lie():
    """A map whose value is the column: from the left edge to the right one it rises evenly."""
    columns = torch.arange(24, dtype=torch.float32).expand(1, 1, 16, 24)
    uv = torch.tensor([[[-1 + 1 / 24, 0.0], [1 - 1 / 24, 0.5], [0.0, -0.5]]])
    torch.testing.assert_close(sample(columns, uv)[0, 0], torch.tensor([0.0, 23.0, 11.5]))


def test_features_follow_what_the_image_shows(branch):
    """A bright square in the right half changes features there, not far away from it."""
    dark = torch.full((1, 3, 384, 640), 60.0)
    bright = dark.clone()
    bright[..., 150:230, 500:580] = 250.0
    there, away = (torch.tensor([[[x, 0.0]]]) for x in (540 / 320 - 1, -0.9))
    with torch.no_grad():
        one, two = branch(dark), branch(bright)
    changed = [(sample(one, uv) - sample(two, uv)).abs().max().item() for uv in (there, away)]
    assert changed[0] > 5 * changed[1]
