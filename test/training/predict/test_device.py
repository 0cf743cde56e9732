import pytest

torch = pytest.importorskip("torch")

from training.predict.device import inference, on_fastest_device  # noqa: E402

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(8, 64, 3), torch.nn.ReLU(), torch.nn.Conv2d(64, 13, 3)).eval()


def test_without_a_gpu_the_network_is_not_copied(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_fastest_device(network) is network


def test_inference_disables_gradients_and_tf32(network):
    before = torch.backends.cudnn.allow_tf32
    with inference():
        assert not torch.backends.cudnn.allow_tf32
        assert not network(torch.ones(1, 8, 16, 16)).requires_grad
    assert torch.backends.cudnn.allow_tf32 == before
    assert network(torch.ones(1, 8, 16, 16)).requires_grad


@GPU
def test_gpu_copy_gives_the_results_of_the_cpu(network):
    images = torch.randn(2, 8, 64, 64, generator=torch.Generator().manual_seed(1))
    copy = on_fastest_device(network)
    assert next(copy.parameters()).is_cuda and not next(network.parameters()).is_cuda
    with inference():
        actual, expected = copy(images.cuda()).cpu(), network(images)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert (actual.argmax(1) == expected.argmax(1)).float().mean() > 0.999
