"""Which known name a misspelt one may mean."""

import pytest

from xmodelkd_ros.core.similar_names import nearest_name, nearest_names

KNOWN = ["model", "mode", "sync.slop", "filter.drop_classes", "qos_overrides./points.subscription.depth"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("modle", "model"),
        ("Mode", "mode"),
        ("slop", "sync.slop"),
        ("drop_class", "filter.drop_classes"),
        ("qos_overrides./point.subscription.depth", "qos_overrides./points.subscription.depth"),
        ("wheel_base", ""),
        ("", ""),
    ],
)
def test_nearest_name(name, nearest):
    assert nearest_name(name, KNOWN) == nearest
    assert nearest_name(name, []) == ""


def test_nearest_names_begin_with_the_nearest():
    assert nearest_names("modle", KNOWN, 3) == ["model", "mode"]
    assert nearest_names("modle", KNOWN, 1) == ["model"]
    assert nearest_names("x" * 1_000_000, KNOWN, 3) == []
