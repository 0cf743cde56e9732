import pytest

from xmodelkd_ros.core.strict_json import parse_json

DEEP = "[" * 100_000


def test_parses_json():
    assert parse_json('{"a": [1, 2.5, null, "NaN"]}') == {"a": [1, 2.5, None, "NaN"]}
    assert parse_json(b"[1e30]") == [1e30]


@pytest.mark.parametrize("text", ["", "{", DEEP, '{"a":' * 100_000, "NaN", "[-Infinity]", "1e999", "9" * 5000])
def test_rejects_invalid_deep_and_infinite_json(text):
    with pytest.raises(ValueError):
        parse_json(text)
