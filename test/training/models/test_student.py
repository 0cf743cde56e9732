import pytest

torch = pytest.importorskip("torch")

from training.models.student import ROW_STRIDE, WRAP, Student, wrap  # noqa: E402

H, W, K, C = 16, 256, 3, 13


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    model = Student(K, C, (8, 8, 16, 16, 16), (0, 1, 1, 1), 8)
    for module in model.modules():  # non-trivial statistics of batch normalisation
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture
def sweep():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, K + 1, H, W, generator=generator)
    pixel = torch.randint(0, H * W, (1, 500), generator=generator, dtype=torch.int32)
    points = torch.randn(1, 500, K, generator=generator)
    return image, points, pixel


def logits_of(student, image, points, pixel):
    """Logits of a whole sweep, with circular padding."""
    return student(wrap(image), points, pixel)


def test_output_shape(student, sweep):
    assert logits_of(student, *sweep).shape == (1, C, 500)
    assert H % ROW_STRIDE == 0


def test_nearest_point_gets_the_logits_of_its_pixel(student, sweep):
    """Its offset is zero, so the logits are those of the head without the offset term."""
    image, _, pixel = sweep
    nearest = image[:, :K].flatten(2)[..., pixel[0].long()].transpose(1, 2)
    with torch.no_grad():
        actual = logits_of(student, image, nearest, pixel)
        features = student.dense(wrap(image))[..., WRAP:-WRAP]
        pixel_features = student.head.pixel_proj(features.flatten(2).transpose(1, 2))[0, pixel[0].long()]
        expected = student.head.classify(torch.relu(pixel_features)).T
    torch.testing.assert_close(actual[0], expected, atol=1e-4, rtol=1e-4)


def test_points_of_one_pixel_get_different_logits(student, sweep):
    image, points, pixel = sweep
    logits = logits_of(student, image, points, torch.zeros_like(pixel))
    assert logits.std(dim=2).min() > 0


def test_rotated_sweep_gets_the_same_logits(student, sweep):
    """Up to the zero padding at the outer ends of the margins."""
    image, points, pixel = sweep
    shift = 64
    column = (pixel % W + shift) % W
    rotated = pixel // W * W + column
    with torch.no_grad():
        actual = logits_of(student, image.roll(shift, dims=-1), points, rotated.int())
        expected = logits_of(student, image, points, pixel)
    assert (actual - expected).abs().max() < 0.05 * expected.std()
    assert (actual.argmax(1) == expected.argmax(1)).float().mean() > 0.99


def test_crop_with_margins_gets_the_logits_of_the_sweep(student, sweep):
    image, points, pixel = sweep
    columns, start = 128, 64
    inside = (pixel[0] % W >= start) & (pixel[0] % W < start + columns)
    cropped = (pixel[0, inside] // W * columns + pixel[0, inside] % W - start).int()
    with torch.no_grad():
        margins = image[..., start - WRAP : start + columns + WRAP]
        actual = student(margins, points[:, inside], cropped[None])
        expected = logits_of(student, image, points, pixel)[..., inside]
    assert (actual.argmax(1) == expected.argmax(1)).float().mean() > 0.97


def test_gradients_reach_every_parameter(student, sweep):
    student.zero_grad()
    logits_of(student, *sweep).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_separable_convolutions_have_fewer_parameters(sweep):
    sizes = []
    for separable in (False, True):
        model = Student(K, C, (16, 16, 32, 32, 32), (0, 1, 1, 1), 8, separable)
        assert logits_of(model.eval(), *sweep).shape == (1, C, 500)
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
    assert sizes[1] < 0.3 * sizes[0]
