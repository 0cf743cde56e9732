import pytest

from xmodelkd_ros.core.errors import LabelError, XModelKDError


@pytest.mark.parametrize("name", ["two\nlines", "a\r\x1b[2Jb", "nul\0", "\u2028", "\x85"])
def test_an_error_is_one_line_whatever_it_names(name):
    text = str(LabelError(f"no class '{name}'; it has car"))
    assert text.splitlines() == [text] and text.isprintable()
    assert text.startswith("no class '") and text.endswith("'; it has car")


def test_an_error_can_be_read_whatever_it_names():
    text = str(XModelKDError(f"no class '{'x' * 100_000}'; it has car"))
    assert len(text) < 4100
    assert text.startswith("no class 'xxx") and text.endswith("xxx'; it has car")
    assert str(XModelKDError("Straße 名 'x'")) == "Straße 名 'x'"
