"""Folders of image networks: settings, inputs and outputs of every form, and what is wrong with them."""

import json

import numpy as np
import pytest

from test.training.image_network.networks import CLASSES, write_network
from training.image_network.answers import ImageAnswers
from training.image_network.classes import ImageClasses
from training.image_network.network import ImageNetwork
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.resources import find_config, shipped_image_classes

onnx = pytest.importorskip("onnx")


def flag(height=48, width=96):
    """An image of three vertical stripes, red, green and blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for k in range(3):
        pixels[:, k * width // 3 : (k + 1) * width // 3, k] = 200
    return pixels


def said(probabilities):
    """The most probable class in the middle of each stripe."""
    _, height, width = probabilities.shape
    return [int(probabilities[:, height // 2, int((k + 0.5) * width / 3)].argmax()) for k in range(3)]


@pytest.mark.parametrize("size", [("h", "w"), (64, 128)], ids=["any size", "fixed size"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("kind", "output_layout"),
    [("logits", "NCHW"), ("logits", "NHWC"), ("probabilities", "NCHW"), ("classes", "NCHW")],
)
def test_probabilities_of_every_form_of_network(tmp_path, size, layout, kind, output_layout):
    folder = write_network(tmp_path, layout=layout, size=size, kind=kind, output_layout=output_layout)
    network = ImageNetwork(folder)
    answer = network.probabilities(flag())
    assert answer.dtype == np.float32 and answer.shape == ((3, 4, 8) if "h" in size else (3, 8, 16))
    np.testing.assert_allclose(answer.sum(axis=0), 1, atol=1e-5)
    assert said(answer) == [0, 1, 2]


def test_colours_and_normalisation(tmp_path):
    turned = ImageNetwork(write_network(tmp_path / "bgr", input={"color": "BGR"}))
    assert said(turned.probabilities(flag())) == [2, 1, 0]
    plain = ImageNetwork(write_network(tmp_path / "plain")).probabilities(flag())
    halved = ImageNetwork(write_network(tmp_path / "std", input={"mean": [0, 0, 0], "std": [2, 2, 2]}))
    assert halved.probabilities(flag())[0, 2, 1] < plain[0, 2, 1]
    shifted = ImageNetwork(write_network(tmp_path / "mean", input={"mean": [0, 0, -900]}))
    assert said(shifted.probabilities(flag())) == [2, 2, 2]


def test_mean_of_several_sizes_and_the_mirrored_image(tmp_path):
    pixels = flag(48, 100)  # stripes cross the blocks
    both = ImageNetwork(write_network(tmp_path / "both", input={"long_sides": [64, 128]})).probabilities(pixels)
    one = ImageNetwork(write_network(tmp_path / "one", input={"long_sides": [128]})).probabilities(pixels)
    assert both.shape == one.shape == (3, 8, 16) and said(both) == [0, 1, 2]
    assert 0.01 < np.abs(both - one).max() < 0.6
    mirrored = ImageNetwork(write_network(tmp_path / "mirrored", mirrored=True))
    forth = mirrored.probabilities(pixels)
    back = mirrored.probabilities(np.ascontiguousarray(pixels[:, ::-1]))
    np.testing.assert_allclose(forth, back[..., ::-1], atol=1e-6)


def test_mean_of_several_networks(tmp_path):
    right = ImageNetwork(write_network(tmp_path / "rgb"))
    other = {"name": "other colours", "license": "none", "attribution": ""}
    turned = ImageNetwork(write_network(tmp_path / "bgr", input={"color": "BGR"}, origins=[other]))
    both = ImageNetwork(write_network(tmp_path / "both", average_with=["../bgr"]))
    mean = (right.probabilities(flag()) + turned.probabilities(flag())) / 2
    np.testing.assert_allclose(both.probabilities(flag()), mean, atol=1e-6)
    assert both.key not in (right.key, turned.key)
    assert [origin.name for origin in both.origins] == ["three colours", "other colours"]


def test_networks_of_other_classes_are_not_averaged(tmp_path):
    folder = write_network(tmp_path / "first", average_with=["../second"])
    second = write_network(tmp_path / "second")
    (second / "colours.json").write_text(json.dumps({**CLASSES, "name": "tints", "classes": CLASSES["classes"][::-1]}))
    with pytest.raises(ConfigError, match=r"second has the classes tints, but .*first colours"):
        ImageNetwork(folder)
    write_network(tmp_path / "second", average_with=["../first"])
    with pytest.raises(ConfigError, match=r"second has average_with itself, so .*first cannot name it"):
        ImageNetwork(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": 4}, r"output has 4 classes, but colours has 3"),
        ({"output": {"kind": "probabilities"}}, r"no probabilities; set output\.kind to logits"),
        ({"input": {"long_sides": []}}, r"long_sides is \(\), but must be given: the network takes any size"),
        (
            {"size": (64, 128), "input": {"long_sides": [64]}},
            r"long_sides .* must be empty: the size is \(1, 3, 64, 128\)",
        ),
        ({"input": {"layout": "NHWC"}}, r"input image .* must be a float32 image, NHWC"),
        ({"output": {"name": "depth"}}, r"outputs scores; give one of them as output\.name"),
        ({"file": "other.onnx"}, r"cannot load .*other\.onnx"),
        ({"classes": "cityscapes20"}, r"no image classes 'cityscapes20': neither a file in .* nor one of ade150"),
        ({"origins": []}, r"origins is \(\), but must be a list with at least one entry"),
        ({"inputs": {}}, r"inputs is not a setting; known are average_with, classes, file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, change, said):
    folder = write_network(tmp_path, **change)
    with pytest.raises(ConfigError, match=said) as error:
        ImageNetwork(folder).probabilities(flag())
    assert "\n" not in str(error.value)


def test_folder_without_settings(tmp_path):
    with pytest.raises(ConfigError, match=r"has no network\.json"):
        ImageNetwork(tmp_path)


@pytest.mark.parametrize("name", shipped_image_classes())
def test_shipped_tables_name_classes_of_their_label_set(name):
    table = ImageClasses.read(find_config(f"image_classes/{name}.json"))
    count = int(name[-3:].lstrip("abcdefghijklmnopqrstuvwxyz") or 0)
    assert table.name == name and len(table) == (count or 171)
    assert table.means.shape == (len(table), 14) and table.means.any(axis=0)[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12]].all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": [{"name": "red", "means": ["bus stop"]}]}, r"'red' means bus stop, but drive13 has car"),
        ({"classes": [{"name": "red", "means": ["car"]}, {"name": "red", "means": ["car"]}]}, "red occur twice"),
        ({"classes": [{"name": "red", "means": "never"}]}, "no class means anything in drive13"),
        ({"classes": [{"name": "red", "means": "car"}]}, "means of red is car, but must be a list"),
        ({"label_set": "drive14"}, "no label set 'drive14'"),
        ({"classes": [{"name": "red"}]}, "'means'"),
    ],
)
def test_tables_with_mistakes(tmp_path, change, said):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**CLASSES, **change}))
    with pytest.raises(ConfigError, match=said):
        ImageClasses.read(path)


def encoded(pixels):
    import cv2

    return cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()


def test_answers_are_computed_once(tmp_path, monkeypatch):
    network = ImageNetwork(write_network(tmp_path / "network"))
    answers, jpeg = ImageAnswers(network, tmp_path / "cache"), encoded(flag())
    first = answers.of(jpeg)
    np.testing.assert_allclose(first.sum(axis=0), 1, atol=1e-5)
    assert said(first) == [0, 1, 2] and np.abs(first - network.probabilities(flag())).max() < 0.05
    asked = []
    monkeypatch.setattr(ImageNetwork, "probabilities", lambda self, pixels: asked.append(pixels) or first)
    np.testing.assert_array_equal(ImageAnswers(network, tmp_path / "cache").of(jpeg), first)
    assert not asked
    (stored,) = (tmp_path / "cache").rglob("*.npz")
    stored.write_bytes(stored.read_bytes()[:100])
    answers.of(jpeg)
    assert len(asked) == 1, "a damaged answer is computed again"


def test_answers_depend_on_network_and_settings(tmp_path):
    first = ImageNetwork(write_network(tmp_path / "a"))
    assert ImageNetwork(write_network(tmp_path / "b")).key == first.key
    assert ImageNetwork(write_network(tmp_path / "c", mirrored=True)).key != first.key
    assert ImageNetwork(write_network(tmp_path / "d", kind="probabilities")).key != first.key
