"""Classes seen in images as features of points: simulated in generated drives, a network's answers in recorded ones."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from test.training.image_network.networks import write_network
from training.config.data import SourceConfig
from training.config.training import TeacherConfig, TrainingConfig
from training.data.sources import load_source
from training.export import main as export_run
from training.image_network.answers import ImageAnswers
from training.image_network.classes import ImageClasses
from training.image_network.confusion import SKY, estimated_confusion, usual_confusion
from training.image_network.network import ImageNetwork
from training.image_network.reader import ImageClassReader, NetworkReader
from training.image_network.simulated import SimulatedNetwork
from training.modules.checkpoint import read_checkpoint
from training.predict.predictor import load_predictor, predict_labels
from training.train import train
from xmodelkd_ros.core.errors import ConfigError, ModelError
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.visibility import NO_CAMERA
from xmodelkd_ros.resources import find_config, label_map, shipped_image_classes

DRIVE13 = label_map("drive13")
CAR = np.s_[50:75, 60:90]


def table(name="cityscapes19"):
    return ImageClasses.read(find_config(f"image_classes/{name}.json"))


def test_classes_of_one_meaning_are_one_group():
    classes = table()
    groups = classes.groups
    assert len(groups) == 13 and groups.names[0] == "road|road_marking|hazard" and "never" in groups.names
    probabilities = np.random.default_rng(0).dirichlet(np.ones(19), (4, 5)).transpose(2, 0, 1).astype(np.float32)
    grouped = classes.grouped(probabilities)
    np.testing.assert_allclose(grouped.sum(axis=0), 1, rtol=1e-5)
    truck = sum(probabilities[classes.names.index(name)] for name in ("truck", "bus", "train"))
    np.testing.assert_allclose(grouped[groups.names.index("truck")], truck, rtol=1e-5)
    assert ImageClasses.from_dict(classes.to_dict()) == classes


@pytest.mark.parametrize("name", shipped_image_classes())
def test_usual_confusion_mostly_says_what_is_true(name):
    classes = table(name)
    confusion = usual_confusion(classes)
    np.testing.assert_allclose(confusion.sum(axis=1), 1)
    assert confusion.shape == (14, len(classes.groups)) and (confusion > 0).all()
    for row, own in enumerate((*DRIVE13.names, SKY)):
        right = [(own in meant) if own != SKY else not meant for meant in classes.groups.sets]
        assert confusion[row, right].sum() > 0.3, own


def test_confusion_is_estimated_from_an_observer_that_errs_for_other_reasons():
    """The network takes most cyclists for persons, which the usual shares do not say; the student errs often."""
    classes, rng = table(), np.random.default_rng(0)
    usual = usual_confusion(classes)[:-1]
    truth = rng.choice(13, 60_000, p=np.r_[0.25, 0.05, 0.1, np.full(10, 0.6 / 10)])
    true_table = usual.copy()
    person, cyclist = (classes.groups.names.index(name) for name in ("person", "two_wheeler"))
    own = DRIVE13.id_of("two_wheeler")
    true_table[own] = 0.002
    true_table[own, [person, cyclist]] = 0.85, 0.12
    true_table /= true_table.sum(axis=1, keepdims=True)
    said = np.array([rng.choice(len(classes.groups), p=true_table[own]) for own in truth]).astype(np.uint8)
    student = np.full((len(truth), 13), 0.3 / 12)
    wrong = rng.random(len(truth)) < 0.25
    student[np.arange(len(truth)), np.where(wrong, rng.integers(0, 13, len(truth)), truth)] = 0.7
    found = estimated_confusion(student, said, np.ones(len(said)), usual)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert usual[own, person] < 0.5 < 0.65 < found[own, person] and found[own, cyclist] < 0.27
    assert abs(found - true_table).max() < abs(usual - true_table).max() / 2


def street():
    """Pixel classes of a street: sky above, a building and a tree, a car on the road."""
    labels = np.full((96, 160), 255, np.uint8)
    labels[20:60, :80], labels[30:60, 90:150], labels[60:] = (
        DRIVE13.id_of(n) for n in ("building", "vegetation", "road")
    )
    labels[50:75, 60:90] = DRIVE13.id_of("car")
    return labels


def test_simulated_answers_are_mostly_right_and_differ():
    network, classes, labels = SimulatedNetwork(table()), table(), street()
    places = ((10, 10), (40, 30), (45, 120), (62, 75), (85, 100))
    wanted = ((), ("building",), ("vegetation",), ("car",), ("road",))
    right, sizes, confident = [], set(), []
    for seed in range(40):
        answer = network.answer(labels, np.random.default_rng(seed))
        np.testing.assert_allclose(answer.sum(axis=0), 1, atol=1e-4)
        sizes.add(answer.shape[1:])
        _, height, width = answer.shape
        best = [int(answer[:, row * height // 96, column * width // 160].argmax()) for row, column in places]
        said = [classes.groups.sets[k] for k in best]
        right.append([set(w) <= set(s) and bool(w) == bool(s) for w, s in zip(wanted, said, strict=True)])
        confident.append(float(answer.max(axis=0).mean()))
    shares = np.mean(right, axis=0)
    assert (shares > 0.6).all() and shares.mean() < 0.99, shares
    assert len(sizes) > 20 and np.ptp(confident) > 0.1
    again = network.answer(labels, np.random.default_rng(3))
    np.testing.assert_array_equal(again, network.answer(labels, np.random.default_rng(3)))


@pytest.fixture(scope="module")
def generated_source():
    config = SourceConfig("world", seeds=(0, 2), sweeps=1, cameras=1, lidar="VLP-16")
    return load_source(config, "train", images=True, pixel_classes=True)


def test_generated_drives_keep_pixel_classes_in_place_of_colours(generated_source):
    images = generated_source.encoded_images[0]
    assert images.jpegs == (b"",) and len(images.pixel_classes) == 1
    pixels = np.asarray(Image.open(io.BytesIO(images.pixel_classes[0])))
    camera, uv = images.views.camera[:, 0], images.views.uv[:, 0]
    seen = camera == 0
    column, row = ((uv[seen] + 1) / 2 * np.array(pixels.shape[::-1])).astype(int).T
    same = pixels[row, column] == generated_source.sweeps[0].labels[seen]
    assert seen.sum() > 500 and same.mean() > 0.85


@pytest.mark.parametrize("name", ["cityscapes19", "ade150"])
def test_networks_with_different_classes_say_how_probable_each_of_ours_is(name):
    classes = table(name)
    answer = np.zeros((len(classes), 1), np.float32)
    answer[classes.names.index("road")] = 0.75
    answer[classes.names.index("sky")] = 0.25
    for probabilities, own in ((answer, classes), (classes.grouped(answer), classes.groups)):
        possible = dict(zip((*DRIVE13.names, SKY), own.possible(probabilities)[:, 0], strict=True))
        assert {one for one, share in possible.items() if share} == {"road", "road_marking", "hazard", SKY}
        assert possible["road"] == possible["road_marking"] == 0.75 and possible[SKY] == 0.25


def test_features_of_points_are_the_classes_of_their_pixels(generated_source):
    reader = ImageClassReader([table(), table("mapillary66")])
    per_sweep = reader.point_features(generated_source.encoded_images)
    right = []
    for features, sweep, images in zip(
        per_sweep, generated_source.sweeps, generated_source.encoded_images, strict=True
    ):
        assert features.features.shape == (len(sweep.labels), 2, 14) and features.features.dtype == np.float16
        seen = features.camera[:, 0] != NO_CAMERA
        assert (features.features[seen, 0].sum(axis=1) > 0.98).all() and features.features.max() <= 1.001
        assert not features.features[~seen].any() and not seen[images.views.camera[:, 0] == NO_CAMERA].any()
        probability = features.features[seen, 0]
        true = probability[np.arange(len(probability)), sweep.labels[seen]]
        right += list(true == probability.max(axis=1))
    assert np.mean(right) > 0.5


def encoded(pixels):
    import cv2

    return cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()


def test_recorded_images_are_answered_by_the_network(tmp_path, generated_source):
    network = ImageNetwork(write_network(tmp_path / "network"))
    answers = ImageAnswers(network, tmp_path / "cache")
    red = np.zeros((96, 160, 3), np.uint8)
    red[..., 0] = 220
    images = [replace(one, jpegs=(encoded(red),), pixel_classes=()) for one in generated_source.encoded_images]
    reader = NetworkReader(answers)
    (features, _) = reader.point_features(images)
    seen = features.camera[:, 0] != NO_CAMERA
    assert (features.features[seen, 0].argmax(axis=1) == 0).all() and seen.any()
    (classes, _) = ImageClassReader([table()]).with_network(reader).point_features(images)
    np.testing.assert_allclose(
        classes.features[seen, 0], reader.classes.groups.possible(features.features[seen, 0].T).T
    )
    with pytest.raises(ConfigError, match=r"distill\.image_network=FOLDER .*--images-by"):
        ImageClassReader([table()]).point_features(images)
    other = replace(table(), name="others", sets=(("car",),) * 19, labels=label_map("outdoor8"))
    with pytest.raises(ConfigError, match="others mean classes of outdoor8, but the teacher's are of drive13"):
        ImageClassReader([table(), other])


def test_settings_of_a_class_reading_teacher(tmp_path):
    assert TeacherConfig(image_classes=("cityscapes19",)).image_branch == ""
    with pytest.raises(ConfigError, match=r"image_classes is .*cityscapes19.*, but must be empty with image_branch"):
        TeacherConfig(image_branch="runs/x", image_classes=("cityscapes19",))
    with pytest.raises(ConfigError, match="image_network is 'folder', but must be empty without image_classes"):
        TeacherConfig(image_network="folder")


def test_class_reading_teacher_is_trained_on_generated_drives_and_teaches(tmp_path, tiny):
    config = TrainingConfig.read(
        find_config("training/class_teacher.yaml"),
        [
            *tiny,
            "data.train=[{dataset: world, seeds: [0, 2], sweeps: 1, cameras: 1, lidar: VLP-16}]",
            "data.validation=[{dataset: world, seeds: [8, 9], sweeps: 1, cameras: 1, lidar: VLP-16}]",
            f"run={tmp_path / 'teacher'}",
        ],
    )
    run = train(config)
    network = load_predictor(run)
    assert isinstance(network.reader, ImageClassReader) and network.reader.tables[0] == table()
    source = load_source(config.data.validation[0], "validation", images=True, pixel_classes=True)
    (predicted,) = predict_labels(network, source.sweeps, source.encoded_images, "")
    (blind,) = predict_labels(network, source.sweeps, [], "")
    seen = source.encoded_images[0].views.camera[:, 0] != NO_CAMERA
    assert (predicted.probability != blind.probability)[seen].mean() > 0.5
    assert export_run([str(run), str(tmp_path / "model")]) == 0
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"last.ckpt", "model.json"}
    assert read_checkpoint(tmp_path / "model").config.teacher.image_classes[0] == "cityscapes19"
    with pytest.raises(ModelError, match="a teacher of classes labels nothing by itself"):
        ModelSpec.read(tmp_path / "model")
