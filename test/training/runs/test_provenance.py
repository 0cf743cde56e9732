"""Damaged records of upstream checkpoints."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from training.config.training import TrainingConfig
from training.runs.provenance import _BUILT_ON, check_upstream
from xmodelkd_ros.core.errors import ConfigError

STUDENT = Path(__file__).parents[3] / "config" / "training" / "world_student.yaml"


@pytest.mark.parametrize("content", ['{"a"', "[]"])
def test_damaged_record_is_one_line(tmp_path, content):
    (tmp_path / _BUILT_ON).write_text(content)
    with pytest.raises(ConfigError, match="remove the run and train it again"):
        check_upstream(TrainingConfig.read(STUDENT, [f"run={tmp_path}"]))
