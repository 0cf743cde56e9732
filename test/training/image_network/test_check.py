"""``python -m training.image_network check``: pictures, shares and agreement, and what is wrong with a drive."""

import json

import numpy as np
import pytest
from PIL import Image

from test.training.image_network.networks import write_network
from training.image_network.__main__ import main


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_network(tmp_path / "network")


def test_report_of_a_drive(network, generated, height_model, tmp_path, capsys):
    out = tmp_path / "check"
    words = ["check", str(network), str(generated.bag), "--points-topic", "/points", "--out", str(out)]
    assert main([*words, "--model", str(height_model), "--sweeps", "2"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("colours: images show ") and "report.html" in said.out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["sweeps"] == 2 and 0.05 < metrics["visible"] < 1 and 0 <= metrics["agreement"] <= 1
    assert sum(row["share"] for row in metrics["classes"].values()) == pytest.approx(1)
    assert set(metrics["classes"]) == {"car|truck", "vegetation", "never"} and metrics["network"] == str(network)
    assert metrics["classes"]["never"]["agreement"] is None
    page = (out / "report.html").read_text()
    pictures = sorted(out.glob("*.jpg"))
    assert pictures and all(picture.name in page for picture in pictures)
    pixels = np.asarray(Image.open(pictures[0]))
    left, right = pixels[:, :900], pixels[:, 900:]
    assert left.std() > 5 and (right > 100).any(), "classes on the left, points on the right"


def test_drive_without_images(network, drives, height_model, tmp_path, capsys):
    words = ["check", str(network), str(drives.folder), "--dataset", "world", "--out", str(tmp_path / "out")]
    assert main([*words, "--model", str(height_model)]) == 1
    assert "has no images; record an image topic, its CameraInfo and /tf_static" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
