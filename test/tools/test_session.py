"""Preparation of a model before the node runs it."""

from pathlib import Path

import pytest

from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.segmentation.backend_selection import BackendChoice
from xmodelkd_ros.tools import session


@pytest.mark.parametrize(
    ("mode", "choice", "loaded"),
    [
        ("student", "openvino", []),
        ("student", "tensorrt", ["height"]),
        ("teacher", "tensorrt", ["light", "height"]),
    ],
)
def test_node_starts_with_a_concrete_back_end_and_built_engines(
    height_model, light_model, monkeypatch, mode, choice, loaded
):
    """Otherwise it exceeds the time that the tools wait for it."""
    calls = []
    monkeypatch.setattr(session, "select_backend", lambda *_: BackendChoice(choice, "fast"))
    monkeypatch.setattr(
        session.SegmentationPipeline, "load", lambda folder, *arguments: calls.append((folder.name, *arguments))
    )
    model = light_model if mode == "teacher" else height_model
    options = RunOptions(Path("bag"), str(model), Path("out"), mode=mode, student=str(height_model))
    assert session.prepared_for_node(options).backend == choice
    assert calls == [(name, choice, "auto") for name in loaded]
