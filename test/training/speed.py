"""Shortcuts for tests that do not depend on the skipped work."""

from training.deploy import model_folder


def without_reduced_precision(monkeypatch):
    """Let exports write fp32 networks only."""
    monkeypatch.setattr(model_folder, "add_precisions", lambda spec, *_: spec)
