"""The project's own image branch as an image network."""

import numpy as np
import torch

from training.export import main
from training.image_network.network import ImageNetwork
from training.models.image_branch import IMAGE_SIZE, to_tensor
from training.modules.checkpoint import read_run
from training.modules.image_module import image_branch_of
from xmodelkd_ros.resources import label_map


def test_exported_image_branch_gives_its_class_probabilities(images, tmp_path, capsys):
    assert main([str(images), str(tmp_path / "network")]) == 0
    assert "13 classes" in capsys.readouterr().out
    network = ImageNetwork(tmp_path / "network")
    assert network.classes.names == label_map("drive13").names
    np.testing.assert_array_equal(network.classes.means[:, :-1], np.eye(13, dtype=bool))
    pixels = np.random.default_rng(0).integers(0, 255, (*IMAGE_SIZE, 3)).astype(np.uint8)
    branch = image_branch_of(read_run(images))
    with torch.no_grad():
        features = branch(to_tensor(torch.from_numpy(pixels)[None]))
        expected = branch.classify(features.permute(0, 2, 3, 1)).softmax(dim=-1)[0].permute(2, 0, 1).numpy()
    np.testing.assert_allclose(network.probabilities(pixels), expected, atol=1e-4)
    assert [origin.name for origin in network.config.origins] == [origin.name for origin in read_run(images).origins]
    assert main([str(images), str(tmp_path / "network")]) == 0, "replaces one"


def test_folder_of_something_else_is_not_replaced(images, tmp_path, capsys):
    (tmp_path / "thesis.txt").touch()
    assert main([str(images), str(tmp_path)]) == 1
    assert "exists and holds no image network" in capsys.readouterr().err and (tmp_path / "thesis.txt").exists()
