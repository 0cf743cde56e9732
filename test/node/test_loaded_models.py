"""Checks of the models of a node before they are loaded or used."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.node import loaded_models
from xmodelkd_ros.node.loaded_models import LoadedModels, _check_teacher
from xmodelkd_ros.resources import label_map


@pytest.fixture
def specs(light_model, height_model):
    """Specifications of a teacher for three cameras, and of a student."""
    return ModelSpec.read(light_model), ModelSpec.read(height_model)


def test_teacher_needs_the_label_set_of_the_student(specs):
    teacher, student = specs
    _check_teacher(teacher, student, 3)
    labels = replace(label_map("drive13"), name="other")
    with pytest.raises(ModelError, match="teacher_model light and model height have different classes; choose two"):
        _check_teacher(replace(teacher, labels=labels), student, 3)


def test_teacher_limits_the_number_of_cameras(specs):
    with pytest.raises(ModelError, match="cameras lists 4 cameras, but teacher_model light supports at most 3"):
        _check_teacher(*specs, 4)


def test_role_is_checked_before_back_ends_are_compared(light_model, monkeypatch):
    """The comparison may take minutes."""
    monkeypatch.setattr(loaded_models, "select_backend", lambda *_: pytest.fail("compared"))
    logger = SimpleNamespace(info=print)
    parameters = SimpleNamespace(
        model=str(light_model), engine_cache_dir="", sensor="", backend="auto", precision="auto"
    )
    with pytest.raises(
        ModelError, match=r"parameter model needs a student, but .* is a teacher; set teacher_model to it"
    ):
        LoadedModels(SimpleNamespace(get_logger=lambda: logger), parameters, None)
