from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from training.world import contact_sheet
from training.worldgen.drive import TEST, TRAIN, VALIDATION, split_of
from training.worldgen.mesh import LABELS
from training.worldgen.sensing.lidar import RANGE_STEP_M, Scan
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.products import HORIZON


@pytest.fixture(scope="module")
def panel():
    return contact_sheet.panel(3, frame=0, scale=0.5)


def test_panel_has_image_classes_and_two_range_images(panel):
    height = contact_sheet._CAPTION_PX + 192 + 2 * contact_sheet._ROWS_PX
    assert panel.shape == (height, 640, 3)
    assert panel.dtype == np.uint8


def test_caption_colours(panel):
    caption = panel[: contact_sheet._CAPTION_PX]
    assert caption.max() == 255
    assert 0.005 < (caption.mean(axis=2) < 128).mean() < 0.3


def test_classes_have_the_colours_of_the_label_set(panel):
    top = contact_sheet._CAPTION_PX
    colors = np.unique(panel[top : top + 192, 320:].reshape(-1, 3), axis=0)
    known = {tuple(c.color) for c in LABELS.classes} | {contact_sheet._SKY}
    assert {tuple(map(int, color)) for color in colors} <= known
    assert tuple(LABELS.classes[LABELS.id_of("road")].color) in set(map(tuple, colors.tolist()))


def scan_of(steps, intensity):
    shape = np.shape(steps)
    return Scan(
        np.array(steps, np.uint16), np.array(intensity, np.uint8), np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
    )


def test_range_image_colours():
    near, far = round(3 / RANGE_STEP_M), round(80 / RANGE_STEP_M)
    empty, yellow, violet, bright = contact_sheet._range_colors(scan_of([[0, near, far, near]], [[0, 20, 20, 255]]))[0]
    assert tuple(empty) == contact_sheet._EMPTY
    assert yellow[0] > yellow[2]
    assert violet[2] > violet[1]
    assert bright.astype(int).sum() > yellow.astype(int).sum()


def test_range_image_corrects_azimuth_offsets():
    lidar = LidarModel("test", (2.0, 0.0, -2.0), 360, azimuth_offsets_deg=(4.0, 0.0, -3.0))
    columns = np.zeros((360, 3, 3), np.uint8)
    for beam, offset in enumerate((4, 0, -3)):
        columns[100 + offset, beam] = 255  # a beam that looks to the left meets it later: azimuth falls
    strip = contact_sheet._strip(columns, lidar, 360)
    assert set(np.nonzero(strip.any(axis=2))[1]) == {100}


def test_range_image_shows_pulses_without_beams_where_they_point_to():
    lidar = replace(HORIZON, columns=4000)
    azimuth = np.degrees(np.arctan2(lidar.directions()[..., 1], lidar.directions()[..., 0]))
    columns = np.zeros((lidar.columns, lidar.beams, 3), np.uint8)
    columns[azimuth > 20] = 255
    strip = contact_sheet._strip(columns, lidar, 800)
    seen = np.nonzero((strip == 255).any(axis=(0, 2)))[0]
    edge = 800 * (0.5 - 20 / lidar.azimuth_span_deg)
    assert seen.max() == pytest.approx(edge, abs=10) and seen.min() < 20


def test_sheet_is_filled_row_by_row():
    panels = [np.full((10, 20, 3), value, np.uint8) for value in range(5)]
    sheet = contact_sheet.sheet(panels)
    gap = contact_sheet._GAP_PX
    assert sheet.shape == (2 * (10 + gap), 3 * (20 + gap), 3)
    assert [int(sheet[row, column, 0]) for row, column in ((0, 0), (0, 20 + gap), (10 + gap, 0))] == [0, 1, 3]
    assert (sheet[10 + gap :, 2 * (20 + gap) :] == 255).all()
    assert contact_sheet.sheet(panels[:1]).shape == (10 + gap, 20 + gap, 3)


def test_the_default_sheet_shows_twelve_drives_of_all_splits():
    assert len(set(contact_sheet.SEEDS)) == 12
    assert {split_of(seed) for seed in contact_sheet.SEEDS} == {TRAIN, VALIDATION, TEST}


def test_writes_the_file_and_reports_it(panel, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(contact_sheet, "each_drive", lambda work, seeds: [panel for _ in seeds])
    out = tmp_path / "new" / "sheet.jpg"
    assert contact_sheet.main(["--seeds", "1", "2", "--out", str(out)]) == 0
    width, height = Image.open(out).size
    assert f"2 drives, {width} x {height} pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "complaint"), [("sheet.bmp", "must end in .jpg or .png"), ("file/sheet.png", "cannot write")]
)
def test_rejects_wrong_arguments_with_one_line(panel, name, complaint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(contact_sheet, "each_drive", lambda work, seeds: [panel for _ in seeds])
    (tmp_path / "file").write_text("")
    assert contact_sheet.main(["--out", str(tmp_path / name)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line
