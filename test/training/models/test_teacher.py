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
def fused_teacher(teacher):
    """A teacher whose fused head is not zero, as after training."""
    torch.nn.init.normal_(teacher.head.classify.weight)
    return teacher


def inputs(seed=0, visible=True):
    rng = np.random.default_rng(seed)
    width = 64 + 2 * WRAP
    image = torch.from_numpy(rng.normal(size=(1, 4, 16, width)).astype(np.float32))
    features = torch.from_numpy(rng.normal(size=(1, FEATURES + 1, 16, width)).astype(np.float32))
    features[:, -1] = float(visible)
    points = torch.from_numpy(rng.normal(size=(1, 50, 3)).astype(np.float32))
    return image, features, points, torch.from_numpy(rng.integers(0, 16 * 64, (1, 50)).astype(np.int32))


def test_new_teacher_gives_the_logits_of_its_lidar_branch(teacher):
    output = teacher(*inputs())
    torch.testing.assert_close(output.fused, output.lidar)


def test_each_head_gives_logits_of_its_own_inputs(fused_teacher):
    image, features, points, pixel = inputs()
    output = fused_teacher(image, features, points, pixel)
    assert output.fused.shape == output.lidar.shape == output.image.shape == (1, CLASSES, 50)
    assert not torch.allclose(output.fused, output.lidar)
    other = fused_teacher(image + 1, features, points, pixel)
    assert not torch.allclose(output.fused, output.lidar)
    torch.testing.assert_close(other.image, output.image, msg="the image head does not depend on the range image")
    assert not torch.allclose(other.lidar, output.lidar)


def test_masked_image_features_have_no_effect(fused_teacher):
    image, features, points, pixel = inputs(visible=False)
    other = features.clone()
    other[:, :-1] += 3
    torch.testing.assert_close(
        fused_teacher(image, features, points, pixel).fused, fused_teacher(image, other, points, pixel).fused
    )


def test_images_change_the_fused_logits_only(fused_teacher):
    image, features, points, pixel = inputs()
    other = features.clone()
    other[:, :-1] += 3
    one, two = fused_teacher(image, features, points, pixel), fused_teacher(image, other, points, pixel)
    assert not torch.allclose(one.fused, two.fused)
    torch.testing.assert_close(one.lidar, two.lidar)


def test_feature_map_has_stride_four(branch):
    maps = branch(torch.zeros(2, 3, 64, 96))
    assert maps.shape == (2, FEATURES, 16, 24)
    assert all(side % 32 == 0 for side in IMAGE_SIZE)


def test_encoder_keeps_its_batch_statistics(branch):
    before = branch.encoder._bn0.running_mean.clone()
    branch.train()
    branch(torch.rand(2, 3, 64, 96) * 255)
    branch.eval()
    torch.testing.assert_close(branch.encoder._bn0.running_mean, before)


def test_sampling_positions():
    """The map's value is the column, so it rises linearly from the left to the right edge."""
    columns = torch.arange(24, dtype=torch.float32).expand(1, 1, 16, 24)
    uv = torch.tensor([[[-1 + 1 / 24, 0.0], [1 - 1 / 24, 0.5], [0.0, -0.5]]])
    torch.testing.assert_close(sample(columns, uv)[0, 0], torch.tensor([0.0, 23.0, 11.5]))


def test_features_change_where_the_image_changes(branch):
    """A bright square in the right half changes the features there, and hardly far away."""
    dark = torch.full((1, 3, 384, 640), 60.0)
    bright = dark.clone()
    bright[..., 150:230, 500:580] = 250.0
    near, far = (torch.tensor([[[x, 0.0]]]) for x in (540 / 320 - 1, -0.9))
    with torch.no_grad():
        one, two = branch(dark), branch(bright)
    changed = [(sample(one, uv) - sample(two, uv)).abs().max().item() for uv in (near, far)]
    assert changed[0] > 5 * changed[1]
