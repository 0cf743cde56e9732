"""Security: untrusted model folders, bags and checkpoints execute nothing, and libraries send no telemetry."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from test.guards import Trap
from test.unsafe_code import unsafe_uses
from xmodelkd_ros.core.errors import ConfigError, LabelError, ModelError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.resources import label_map, translation
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

ROOT = Path(__file__).parents[1]

# --- no telemetry -----------------------------------------------------------------------------------------------------

LOAD = """
import sys
from pathlib import Path
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline
SegmentationPipeline.load(Path(sys.argv[1]), sys.argv[2]).warm_up()
"""
TRAINING = "import training.deploy.onnx_modules"


def files_left_by(code, *arguments, home):
    """Files a program leaves in an empty home folder: telemetry stores a machine id there."""
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=env, cwd=ROOT, check=True)
    return [str(path.relative_to(home)) for path in home.rglob("*")]


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_inference_libraries_send_no_telemetry(height_model, tmp_path, library):
    pytest.importorskip(library)
    assert files_left_by(LOAD, height_model, library, home=tmp_path) == []


def test_training_sends_no_telemetry(tmp_path):
    pytest.importorskip("torch")
    left = files_left_by(TRAINING, home=tmp_path)
    assert not [name for name in left if "Microsoft" in name or "intel" in name], left


# --- data is not executed ---------------------------------------------------------------------------------------------

SOURCES = sorted(path for top in ("xmodelkd_ros", "training", "launch") for path in (ROOT / top).rglob("*.py"))
MAY_IMPORT = {
    # An unpickler that imports nothing.
    "training/datasets/table_pickle.py": {"pickle"},
}
MAY_IMPORT_BY_NAME = {
    "xmodelkd_ros/harness/sweep_log.py",  # message classes, with validated names
    "xmodelkd_ros/inference/tensorrt.py",  # one of two literal names
    "xmodelkd_ros/segmentation/backend_selection.py",
    "xmodelkd_ros/tools/doctor.py",  # libraries that it checks
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_sources_execute_no_data(path):
    where = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    assert unsafe_uses(text, MAY_IMPORT.get(where, set()), where in MAY_IMPORT_BY_NAME) == []


@pytest.mark.parametrize(
    ("where", "less", "by_name"),
    [
        *((where, module, False) for where, modules in MAY_IMPORT.items() for module in sorted(modules)),
        *((where, "", True) for where in sorted(MAY_IMPORT_BY_NAME)),
    ],
)
def test_every_exception_is_needed(where, less, by_name):
    may_import, may_by_name = MAY_IMPORT.get(where, set()), where in MAY_IMPORT_BY_NAME
    text = (ROOT / where).read_text(encoding="utf-8")
    assert unsafe_uses(text, may_import - {less}, may_by_name and not by_name) != []


@pytest.mark.parametrize(
    "lines",
    [
        "import pickle",
        "import pickle as data",
        "from marshal import loads",
        "from pickle import loads as read",
        "from torch import *",
        "eval(text)",
        "map(eval, texts)",
        "run = exec; run(text)",
        "builtins.exec(text)",
        "import builtins as b; b.eval(text)",
        "from builtins import eval as value; value(text)",
        "getattr(builtins, 'eval')(text)",
        "import builtins; getattr(builtins, name)(text)",
        "import builtins; vars(builtins)['eval'](text)",
        "globals()['__builtins__']['eval'](text)",
        "import sys; sys.modules['pickle'].loads(text)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import load; load(text)",
        "from yaml import load as read; read(text)",
        "from yaml import unsafe_load as read; read(text)",
        "import yaml as y; y.full_load(text)",
        "from yaml import UnsafeLoader",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=sure)",
        "torch.load(path, **options)",
        "from torch import load; load(path)",
        "from torch import load as read; read(path)",
        "import torch as t; t.load(path)",
        "import torch as t; u = t; u.load(path)",
        "import torch; read = torch.load; read(path)",
        "import torch; a, b = 1, torch.load; b(path)",
        "import torch; functools.partial(torch.load, path)()",
        "import torch; (read := torch.load)(path)",
        "getattr(torch, 'load')(path)",
        "import torch; getattr(torch, 'lo' + 'ad')(path)",
        "importlib.import_module('torch').load(path)",
        "t = importlib.import_module('torch'); t.load(path)",
        "from torch import jit; jit.load(path)",
        "import torch.hub as h; h.load(path)",
        "import numpy as np; np.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy; numpy.load(path)",
        "from numpy import load; load(path)",
        "import numpy as n; (n if x else y).load(path)",
        "pandas.read_pickle(path)",
        "from pandas import read_pickle as read; read(path)",
        "StudentModule.load_from_checkpoint(path)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=wanted)",
        "os.system(text)",
        "from os import system as run; run(text)",
        "import os as o; o.popen(text)",
        "importlib.import_module(name)",
        "from importlib import import_module as get; get(name)",
        "importlib.import_module('pickle')",
        "__import__(name)",
        "from importlib import __import__ as get; get(name)",
        "from importlib.util import spec_from_file_location",
        "import torch; torch.serialization.load(path, weights_only=False)",
        "import torch.serialization as s; s.load(path)",
        "from torch.serialization import load as read; read(path)",
        "import numpy as np; np.lib.npyio.load(path, allow_pickle=True)",
        "from numpy.lib import npyio; npyio.load(path)",
        "import numpy as np; np.lib._format_impl.read_array(file)",
        "import sys; sys.modules.get('pickle').loads(text)",
        "import sys; sys.modules.setdefault('pickle', None).loads(text)",
        "import sys; sys.modules.setdefault('torch', None).load(path)",
        "import sys; known = sys.modules; known.get('pickle').loads(text)",
        "from sys import modules; [*modules.values()][0].loads(text)",
        "globals().get('eval')(text)",
        "every = globals(); every['eval'](text)",
        "import torch; torch.__dict__['load'](path)",
        "import torch; torch.__dict__.get('load')(path)",
        "import torch; every = torch.__dict__; every['load'](path)",
        "import torch; vars(torch).get('load')(path)",
        "import torch; find = vars; find(torch)['load'](path)",
        "import torch; find = getattr; find(torch, 'load')(path)",
        "import torch; torch.__getattribute__('load')(path)",
        "import operator, torch; operator.attrgetter('load')(torch)(path)",
        "import operator, torch; operator.attrgetter('serialization.load')(torch)(path)",
        "import torch; from operator import attrgetter as of; of(name)(torch)(path)",
        "import operator, torch; operator.methodcaller('load', path)(torch)",
        "import operator, torch; map(operator.methodcaller, ['load'])",
        "from pandas.compat import pickle_compat; pickle_compat.Unpickler(file).load()",
        "from pandas.compat.pickle_compat import Unpickler; Unpickler(file).load()",
        "import pandas; pandas.compat.pickle_compat.Unpickler(file).load()",
        "import importlib; importlib.import_module('pandas.compat.pickle_compat').Unpickler(file).load()",
        "import torch; torch.serialization.pickle.loads(text)",
        "from numpy.lib.format import pickle as data; data.loads(text)",
        "import yaml; yaml.CUnsafeLoader(text).get_data()",
        "import yaml; yaml.cyaml.CLoader(text).get_data()",
        "from yaml.constructor import UnsafeConstructor",
        "import os; os.execvp(text, [text])",
        "import os; os.posix_spawn(text, [text], {})",
        "from os import spawnlp as run; run(0, text, text)",
        "import posix; posix.execv(text, [text])",
        "import os; getattr(os, name)(text)",
        "import training; training.modules.checkpoint.torch.load(path)",
        "from training import checkpoint; checkpoint.torch.jit.load(path)",
    ],
)
@pytest.mark.parametrize("form", ["{}", "def read():\n    {}"], ids=["module", "function"])
def test_detects_unsafe_code_under_any_name(lines, form):
    code = form.format(lines.replace("; ", "\n    " if form.startswith("def") else "\n"))
    assert len(unsafe_uses(code)) >= 1


@pytest.mark.parametrize(
    "lines",
    [
        "import torch; torch.load(path, map_location='cpu', weights_only=True)",
        "from torch import load as read; read(path, weights_only=True)",
        "import numpy as np; np.load(path, allow_pickle=False)",
        "from yaml import safe_load as load; load(text)",
        "import yaml; yaml.safe_load(text); yaml.safe_dump(text)",
        "import json; json.load(file); load = json.load; load(file)",
        "import re; re.compile(text)",
        "network.eval(); network.compile()",
        "model.load(path); self.load(path)",
        "from xmodelkd_ros.core.model_spec import load; load(path)",
        "from model import load; load(path)",
        "getattr(self, name)(); getattr(error, 'strerror', None)",
        "import subprocess; subprocess.run(words, shell=False)",
        "importlib.import_module('numpy').zeros(3)",
        "import platform; platform.machine()",
        "import ast; ast.literal_eval(text)",
        "settings['eval']; known['pickle']",
        "import sys; 'torch' in sys.modules; sys.modules.setdefault('openvino_telemetry', None)",
        "import torch; torch.serialization.load(path, weights_only=True)",
        "import numpy as np; np.lib.npyio.load(path, allow_pickle=False)",
        "import yaml; yaml.CSafeLoader(text).get_data(); yaml.SafeLoader(text)",
        "import operator; sorted(rows, key=operator.attrgetter('name')); operator.methodcaller('split', mark)(text)",
        "sum(vars(self).values()); self.__dict__; settings.get('eval')",
        "import os; os.environ.get('HOME'); os.execution",
        "from pandas import DataFrame, Index; DataFrame(rows)",
    ],
)
def test_accepts_safe_code(lines):
    assert unsafe_uses(lines.replace("; ", "\n")) == []


def test_exceptions_allow_only_the_named_modules():
    assert unsafe_uses("import pickle", {"pickle"}) == []
    assert unsafe_uses("import pickle, marshal", {"pickle"}) == ["marshal"]
    assert unsafe_uses("importlib.import_module(name)", may_import_by_name=True) == []
    assert unsafe_uses("importlib.import_module('pickle')", may_import_by_name=True) == ["pickle"]


def test_rejects_checkpoints_that_execute_code(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from training import export, train
    from training.config.training import TrainingConfig

    run = tmp_path / "run"
    run.mkdir()
    torch.save({"state_dict": {}, "global_step": Trap(tmp_path / "sprung")}, run / "last.ckpt")
    config = TrainingConfig.read(ROOT / "config" / "training" / "world_student.yaml", [f"run={run}", "devices=1"])
    (run / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    for command in (
        lambda: export.main([str(run), str(tmp_path / "model")]),
        lambda: train.main([str(run / "config.yaml")]),
    ):
        assert command() == 1
        error = capsys.readouterr().err
        assert error == f"error: cannot read checkpoint {run}/last.ckpt; remove {run} and train again\n"
    assert not (tmp_path / "sprung").exists() and not (tmp_path / "model").exists()
    torch.load(run / "last.ckpt", weights_only=False)
    assert (tmp_path / "sprung").is_dir(), "the trap works"


def test_rejects_pandaset_pickles_that_execute_code(tmp_path):
    """A checkpoint names its training data, which an export reads."""
    pandas = pytest.importorskip("pandas")
    from training.datasets.pandaset import PandaSetSequence

    sequence = object.__new__(PandaSetSequence)
    sequence.path = tmp_path
    table = pandas.DataFrame({"a": [1.5, 2.5], "b": [3, 4]})
    table.to_pickle(tmp_path / "table.pkl.gz")
    assert {name: values.tolist() for name, values in sequence._table("table.pkl.gz", "a", "b").items()} == {
        "a": [1.5, 2.5],
        "b": [3, 4],
    }
    trap = Trap(tmp_path / "sprung")
    within = table.assign(c=pandas.Series([trap, trap], dtype=object))
    for number, content in enumerate([trap, {"a": [trap]}, print, within]):
        pandas.to_pickle(content, tmp_path / f"{number}.pkl.gz")
        with pytest.raises(ConfigError, match=r"it uses \w+\.\w+, which tables do not need"):
            sequence._table(f"{number}.pkl.gz", "a")
    assert not (tmp_path / "sprung").exists()
    for damaged in (b"", b"no pickle", b"\x80\x04\x8c"):
        (tmp_path / "damaged.pkl.gz").write_bytes(gzip.compress(damaged))
        with pytest.raises(ConfigError, match="cannot read"):
            sequence._table("damaged.pkl.gz", "a")


@pytest.mark.parametrize(
    "name",
    ["pandas\nread_pickle", "pandas.core.computation.eval\neval", "pandas._libs.lib\nos", "pyarrow.lib\nfrombytes"],
)
def test_names_of_pandas_in_a_pickle_are_not_imported(name):
    from training.datasets.table_pickle import columns, unpickled

    called = unpickled(b"\x80\x02c" + name.encode() + b"\nX\x05\x00\x00\x00/tmp/\x85R.")
    assert called.args == ("/tmp/",) and called.state is None
    with pytest.raises(ValueError, match="not a table"):
        columns(called, ["a"])


@pytest.mark.parametrize(
    "msgtype", ["trap/py/Message", "trap.x/msg/Message", "trap", "trap/Message", "/msg/", "", "a/b/c/d"]
)
def test_message_types_import_only_messages(msgtype, monkeypatch, tmp_path):
    pytest.importorskip("rclpy")
    from xmodelkd_ros.harness.sweep_log import message_class

    (tmp_path / "trap").mkdir()
    for name in ("py", "x", "Message"):
        (tmp_path / "trap" / f"{name}.py").write_text(f"import os; os.mkdir({str(tmp_path / 'sprung')!r})")
    monkeypatch.syspath_prepend(tmp_path)
    assert message_class(msgtype) is None
    assert not (tmp_path / "sprung").exists()
    assert message_class("std_msgs/msg/String").__name__ == "String"


# --- data refers to its own files only --------------------------------------------------------------------------------


def write_json(folder, change):
    data = json.loads((folder / "model.json").read_text())
    change(data)
    (folder / "model.json").write_text(json.dumps(data))


@pytest.fixture
def model(height_model, tmp_path):
    """A copy of the small model."""
    shutil.copytree(height_model, tmp_path / "models" / "mine")
    return tmp_path / "models" / "mine"


@pytest.mark.parametrize("file", ["../model.onnx", "/ABSOLUTE", "x/../model.onnx", "./model.onnx", "..", ""])
def test_model_json_rejects_files_outside_its_folder(model, file):
    shutil.copy(model / "model.onnx", model.parent)
    named = file.replace("/ABSOLUTE", str(model / "model.onnx"))
    write_json(model, lambda data: data["files"]["fp32"].update(file=named))
    with pytest.raises(ModelError, match="leaves the model folder") as error:
        SegmentationPipeline.load(model, "onnxruntime")
    assert "\n" not in str(error.value)


def test_links_must_lead_to_the_right_network(model, tmp_path):
    (model / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (model / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    SegmentationPipeline.load(model, "onnxruntime")
    (model / "model.onnx").unlink()
    (model / "model.onnx").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match=r"is not the file that model\.json describes"):
        SegmentationPipeline.load(model, "onnxruntime")


@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "/ABSOLUTE"])
def test_rejects_networks_with_external_weights(model, where):
    onnx = pytest.importorskip("onnx")
    network = onnx.load(model / "model.onnx")
    (weights,) = (tensor for tensor in network.graph.initializer if tensor.name == "weights")
    raw = onnx.numpy_helper.to_array(weights).tobytes()
    for folder in (model, model.parent):
        (folder / "weights.bin").write_bytes(raw)
    location = where.replace("/ABSOLUTE", str(model / "weights.bin"))
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(raw))}.items():
        weights.external_data.add(key=key, value=value)
    (model / "model.onnx").write_bytes(network.SerializeToString())
    write_json(model, lambda data: data["files"]["fp32"].update(sha256=sha256(model / "model.onnx")))
    with pytest.raises(ModelError, match=r"has weights in external files, which files\.fp32\.sha256 does not cover"):
        SegmentationPipeline.load(model, "onnxruntime")


@pytest.mark.usefixtures("installed_first")
def test_label_set_names_cannot_be_paths(model, tmp_path, monkeypatch):
    """Names of label sets come from models and bags, and are used to find translation tables."""
    own = LabelMap.from_dict(json.loads((model / "model.json").read_text())["labels"])
    outside = {"source": "../../labels/mine", "target": "autoware", "table": dict.fromkeys(own.names, "ANIMAL")}
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    tables = tmp_path / "prefix" / "share" / "xmodelkd_ros" / "config" / "labels"
    (tables / "x").mkdir(parents=True)
    (tmp_path / "prefix" / "share" / "xmodelkd_ros" / "labels").mkdir()
    planted = tmp_path / "prefix" / "share" / "xmodelkd_ros" / "labels" / "mine_to_autoware.json"
    planted.write_text(json.dumps(outside))
    assert (tables / "../../labels/mine_to_autoware.json").resolve() == planted
    renamed = replace(own, name="../../labels/mine")
    assert "ANIMAL" not in {name for name in translation(renamed, label_map("autoware")).table.values() if name}
    with pytest.raises(LabelError, match=r"no label set '\.\./\.\./labels/mine'"):
        label_map("../../labels/mine")
