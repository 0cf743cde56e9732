"""Model folders, bags and checkpoints are data, and nothing of a machine is sent to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# --- nothing is sent home ---------------------------------------------------------------------------------------------

LOAD = """
import sys
from pathlib import Path
from xmodelkd_ros.pipeline import SegmentationPipeline
SegmentationPipeline.load(Path(sys.argv[1]), sys.argv[2]).warm_up()
"""
TRAINING = "import training.deployed"


def files_left_by(code, *arguments, home):
    """What a program leaves in an empty home folder: who reports its use keeps an id of the machine there."""
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=env, cwd=ROOT, check=True)
    return [str(path.relative_to(home)) for path in home.rglob("*")]


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_libraries_that_run_networks_report_nothing(height_model, tmp_path, library):
    pytest.importorskip(library)
    assert files_left_by(LOAD, height_model, library, home=tmp_path) == []


def test_nor_do_they_in_training(tmp_path):
    pytest.importorskip("torch")
    left = files_left_by(TRAINING, home=tmp_path)
    assert not [name for name in left if "Microsoft" in name or "intel" in name], left
