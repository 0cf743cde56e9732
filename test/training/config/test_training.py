from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from training.config.data import SourceConfig, frame_range
from training.config.image_training import ImageTrainingConfig
from training.config.training import TrainingConfig
from xmodelkd_ros.core.errors import ConfigError

FOLDER = Path(__file__).parents[3] / "config" / "training"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
STUDENT = FOLDER / "pandaset_student.yaml"


def kind_of(path):
    return ImageTrainingConfig if path.stem.endswith(("image_branch", "images")) else TrainingConfig


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_configs_survive_a_round_trip(path, tmp_path):
    config = kind_of(path).read(path)
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert kind_of(path).read(tmp_path / "copy.yaml") == config
    assert len(SHIPPED) > 4


def test_overrides_change_settings_in_sections():
    config = TrainingConfig.read(
        STUDENT, ["seed=7", "optimizer.learning_rate=1e-3", "data.held_out_sectors=[0, 5]", "augment.scale=0"]
    )
    assert (config.seed, config.optimizer.learning_rate, config.augment.scale) == (7, 1e-3, 0.0)
    assert config.data.held_out_sectors == (0, 5)


def test_overrides_change_settings_in_lists():
    pandaset = next(path for path in SHIPPED if path.name == "pandaset_student.yaml")
    config = TrainingConfig.read(pandaset, ["data.train.0.path=here", "data.validation.0.frames=[1, 2]"])
    assert config.data.train[0].path == "here" and config.data.train[0].frames == (0, 40)
    assert config.data.validation[0].frames == (1, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.sclae=0.1", "augment.sclae is not a setting; known are .*scale"),
        ("data.train.7.path=p", "'data.train.7.path=p' has no section 7"),
        ("data.train.first.path=p", "has no section first"),
        ("sped=1", "sped is not a setting"),
        ("seed=one", "seed is 'one', but must be of type int"),
        ("seed=true", "seed is True, but must be of type int"),
        ("augment=3", "augment is 3, but must be a table"),
        ("model.channels=z", "model.channels is 'z', but must be a list"),
        ("model.widths=[16, 32]", r"model.widths is \(16, 32\), but must be a list of 5"),
        ("model.width=1000", "model.width is 1000, but must be a multiple of 64"),
        ("optimizer.crop_columns=2048", "optimizer.crop_columns is 2048, but must be a divisor of model.width"),
        ("optimizer.ema_decay=1.5", "optimizer.ema_decay is 1.5, but must be below 1"),
        ("augment.mix=2", r"augment.mix is 2.0, but must be in 0\.\.1"),
        ("augment.drop_rows=1.0", "augment.drop_rows is 1.0, but must be below 1"),
        ("data.validation=[]", "data.validation is .* must be a list with at least one entry"),
        ("data.train=[5]", r"data\.train\[0\] is 5, but must be a table"),
        ("label_set=autoware", "label_set is 'autoware', but must be one of drive13, semantickitti19, nuscenes16"),
        ("data.train.0.every=0", r"every is 0, but must be positive"),
        ("model.beams=HDL-16", "model.beams is 'HDL-16', but must be one of Pandar64, HDL-64E, .*HDL-32E"),
        ("data.train=[{}]", r"data\.train\[0\]\.dataset is missing"),
        ("model.widths=[8, 8, x, 8, 8]", r"model\.widths\[2\] is 'x', but must be of type int"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate is 'fast', but must be a number"),
        ("data.held_out_sectors=[6]", r"data.held_out_sectors\[0\] is 6, but must be at most 5"),
        ("devices=-1", "devices is -1, but must be >= 0"),
        ("precision=fp8", "precision is 'fp8'"),
        ("model.beams=VLP", "model.beams is 'VLP', but must be one of Pandar64, "),
        ("distill={teacher: t, logits_weight: 0, lovasz_weight: 0}", "must be at least one weight, or pseudo_share"),
        (
            "distill={teacher: t, pseudo_share: 1}",
            "pseudo_share is 1.0, but must be 0 if every source has",
        ),
        ("teacher={image_branch: i, image_weight: 0}", "teacher.image_weight is 0.0, but must be positive"),
        ("seed", "'seed' is not an override; write section.key=value"),
    ],
)
def test_errors_name_the_setting_and_what_it_must_be(override, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.read(STUDENT, [override])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{dataset: kitti, path: p}",
            "dataset is 'kitti', but must be one of pandaset, semantickitti, nuscenes, world, bag",
        ),
        ("{dataset: pandaset, path: p, frames: [40, 0]}", r"frames is \(40, 0\), but must be two rising numbers"),
        ("{dataset: pandaset, path: p, frames: [40]}", r"frames is \(40,\), but must be two rising numbers"),
        ("{dataset: world, seeds: [-1, 4]}", r"seeds is \(-1, 4\), but must be two rising numbers"),
        ("{dataset: world}", "path is '', but must be set, or seeds of the dataset world"),
        ("{dataset: pandaset, seeds: [0, 4]}", "path is '', but must be set, or seeds"),
        ("{dataset: world, path: p, seeds: [0, 4]}", r"seeds is \(0, 4\), but must be empty with a path"),
        ("{dataset: world, seeds: [0, 4], frames: [0, 2]}", r"frames is \(0, 2\), but must be empty with seeds"),
        ("{dataset: world, seeds: [0, 4], sweeps: 0}", "sweeps is 0, but must be positive"),
        ("{dataset: world, seeds: [0, 4], sweeps: 101}", "sweeps is 101, but must be at most 100"),
        ("{dataset: world, seeds: [0, 4], share: 0}", "share is 0.0, but must be positive"),
        ("{dataset: world, seeds: [0, 4], lidar: OS9}", "lidar is 'OS9', but must be one of Pandar64, HDL-64E"),
        ("{dataset: world, path: p, lidar: OS1-128}", "lidar is 'OS1-128', but must be empty without seeds"),
        (
            "{dataset: world, seed: 4}",
            "seed is not a setting; known are cameras, dataset, every, frames, labels, lidar, odometry, path, seeds",
        ),
        ("{dataset: world, seeds: [0, 4], every: 2}", "every is 2, but must be 1 with seeds"),
        (
            "{dataset: pandaset, path: p, topic: /points}",
            "topic is '/points', but must be empty unless the dataset is bag",
        ),
        ("{dataset: world, seeds: 4}", "seeds is 4, but must be a list"),
    ],
)
def test_source_errors_name_the_source(source, message):
    with pytest.raises(ConfigError, match=rf"^{STUDENT}: data\.train\[1\]\.{message}"):
        TrainingConfig.read(STUDENT, [f"data.train=[{{dataset: pandaset, path: p}}, {source}]"])


def test_sources_of_several_kinds_survive_a_round_trip(tmp_path):
    train = "[{dataset: pandaset, path: p, frames: [0, 40]}, {dataset: world, seeds: [0, 500], sweeps: 3, share: 2}]"
    config = TrainingConfig.read(STUDENT, [f"data.train={train}", "data.validation=[{dataset: world, path: drives}]"])
    real, generated = config.data.train
    assert (real.path, real.frames, real.seeds, real.share) == ("p", (0, 40), (), 1.0)
    assert (generated.path, generated.frames, generated.seeds, generated.sweeps) == ("", (), (0, 500), 3)
    assert generated.share == 2.0 and config.data.validation[0].frames == ()
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert TrainingConfig.read(tmp_path / "copy.yaml") == config


def test_rejects_held_out_sectors_with_generated_drives():
    world = "data.train=[{dataset: world, seeds: [0, 4]}]"
    with pytest.raises(
        ConfigError, match=r"held_out_sectors is \(0,\), but must be empty if train has generated drives"
    ):
        TrainingConfig.read(STUDENT, [world, "data.held_out_sectors=[0]"])


def test_rejects_missing_settings_and_damaged_files(tmp_path):
    data = TrainingConfig.read(STUDENT).to_dict()
    del data["optimizer"]["steps"]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"optimizer\.steps is missing"):
        TrainingConfig.read(tmp_path / "short.yaml")
    with pytest.raises(ConfigError, match=r"cannot read .*nothing\.yaml"):
        TrainingConfig.read(tmp_path / "nothing.yaml")
    (tmp_path / "torn.yaml").write_text("data: [1, 2\nname: x\n")
    with pytest.raises(ConfigError, match=r"^cannot read .*torn\.yaml: .*line 2, column"):
        TrainingConfig.read(tmp_path / "torn.yaml")
    with pytest.raises(ConfigError) as torn:
        TrainingConfig.read(tmp_path / "torn.yaml")
    assert "\n" not in str(torn.value)


KEYS = ", ".join(f"k{number}: 0" for number in range(2_000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "inside of an anchored node"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]", "inside of an anchored node"),
        (f"a: &a {{{KEYS}}}\nb: {{<<: [{', '.join(['*a'] * 5_000)}]}}", "with alias .* more than 262144 characters"),
        (f"a: &a {{{KEYS}}}\nb: {{{'<<: *a, ' * 5_000}}}", "with alias .* more than 262144 characters"),
        (f"a: &a {'x' * 20_000}\nb: [{', '.join(['*a'] * 5_000)}]", "with alias .* more than 262144 characters"),
        ("[" * 50_000, "nested too deep"),
        ("- " * 5_000, "nested too deep"),
        ("seed: " + "9" * 5_000, "cannot be read"),
        ("seed: 2001-99-99", "cannot be read"),
        ("x" * (1 << 19), "has more than 262144 characters"),
        ("!!python/object/apply:os.system [exit]", "could not determine a constructor"),
        ("1: 2\nx: 3", "is not a setting"),
        ("name: \xff", "cannot read"),
    ],
)
def test_rejects_yaml_that_explodes_or_cannot_be_parsed(tmp_path, text, message):
    """Found by ``python -m test.fuzz``."""
    (tmp_path / "x.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message) as error:
        TrainingConfig.read(tmp_path / "x.yaml")
    assert len(str(error.value)) <= 600
    if len(text) < 10_000:
        with pytest.raises(ConfigError, match=r"is not YAML|must be of type|is not a setting"):
            TrainingConfig.read(STUDENT, [f"seed={text}"])


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.learning_rate=.nan",
        "optimizer.learning_rate=1e999",
        "optimizer.weight_decay=-.inf",
        "augment.scale=[[[[]]]]",
        "seed=-1",
        "seed=4294967296",
        "model.widths=[8, 8, 8, 8, 1000000000]",
        "model.blocks=[0, 0, 0, 1000000000]",
        "model.head_channels=1000000000",
        "model.max_points=1000000000000",
        "data.train=[{dataset: world, seeds: [0, 1000000000000000000]}]",
    ],
)
def test_rejects_numbers_out_of_range(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0].rpartition(".")[2] + "|seeds"):
        TrainingConfig.read(STUDENT, [override])


def test_frame_range_is_half_open():
    assert list(frame_range("2:5")) == [2, 3, 4]
    for text in ("5", "5:5", "a:b", "-1:3", ""):
        with pytest.raises(ConfigError, match="must be A:B"):
            frame_range(text)


def test_settings_are_checked_however_they_are_made():
    with pytest.raises(ConfigError, match=r"^share is -1\.0, but must be positive$"):
        SourceConfig("world", seeds=(0, 4), share=-1)
    source = SourceConfig("world", seeds=[0, 4], share="1e-3")
    assert (source.seeds, source.share) == ((0, 4), 1e-3)
    with pytest.raises(ConfigError, match=r"^sweeps is True, but must be of type int$"):
        replace(source, sweeps=True)


OLD_NAMES = {"validation:": "choose:", "head_channels:": "table:", "camera_dropout:": "dark_cameras:"}


def with_old_names(path, folder):
    text = path.read_text().replace("labels: propagated", "labels: carried")
    for new, old in OLD_NAMES.items():
        text = text.replace(f"  {new}", f"  {old}")
    (folder / "old.yaml").write_text(text)
    return folder / "old.yaml"


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.name in ("teacher.yaml", "image_branch.yaml")])
def test_old_names_of_settings_are_read_with_a_note(path, tmp_path, capsys):
    old = with_old_names(path, tmp_path)
    assert kind_of(path).read(old) == kind_of(path).read(path)
    notes = capsys.readouterr().err
    assert f"note: {old}: data.choose is now named data.validation\n" in notes
    assert f"note: {old}: labels: carried is now named labels: propagated\n" in notes
    assert str(path) not in notes


def test_old_names_work_in_overrides(capsys):
    config = TrainingConfig.read(
        STUDENT, ["data.choose.0.frames=[1, 2]", "model.table=8", "data.train.0.labels=carried"]
    )
    assert (config.data.validation[0].frames, config.model.head_channels) == ((1, 2), 8)
    assert config.data.train[0].labels == "propagated"
    assert "model.table is now named model.head_channels" in capsys.readouterr().err
    sections = "teacher={image_branch: i, dark_cameras: 0.3}"
    assert TrainingConfig.read(STUDENT, [sections]).teacher.camera_dropout == 0.3


def test_stored_settings_with_old_names_are_read_silently(tmp_path, capsys):
    config = TrainingConfig.read(FOLDER / "teacher.yaml")
    stored = yaml.safe_load(with_old_names(FOLDER / "teacher.yaml", tmp_path).read_text())
    assert TrainingConfig.from_dict(stored) == config
    assert capsys.readouterr().err == ""


def test_a_setting_under_both_names_is_rejected():
    both = "model={channels: [z], width: 64, max_points: 1, widths: [], blocks: [], table: 8, head_channels: 8}"
    with pytest.raises(ConfigError, match=r"is the old name of model\.head_channels; remove"):
        TrainingConfig.read(STUDENT, [both])
