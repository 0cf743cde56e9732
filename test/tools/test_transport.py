import pytest

from xmodelkd_ros.tools.transport import arrivals_ms, main, write_bag

pytest.importorskip("rclpy", reason="clouds travel over DDS")


@pytest.mark.parametrize("profile", [False, True])
def test_measures_every_cloud(tmp_path, profile):
    bag = tmp_path / "clouds.mcap"
    write_bag(bag, 2000, 6, 10)
    times = arrivals_ms(bag, tmp_path, profile, profile)
    assert len(times) == 6
    assert all(time is not None and time > 0 for time in times)


def test_reports_a_failed_write_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("xmodelkd_ros.tools.transport.tempfile.tempdir", str(tmp_path))
    (tmp_path / "taken").touch()
    monkeypatch.setattr(
        "xmodelkd_ros.tools.transport.write_bag", lambda path, *_: write_bag(tmp_path / "taken", 1, 1, 1)
    )
    assert main(["--points", "10", "--sweeps", "1"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
