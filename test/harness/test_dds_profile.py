"""The environment variable of the Fast DDS profile."""

import pytest

from xmodelkd_ros.harness.dds_profile import profile_variable, user_profile

OLD, NEW = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"


@pytest.mark.parametrize(
    ("distro", "variable"), [("humble", OLD), ("iron", OLD), ("jazzy", OLD), ("kilted", NEW), ("rolling", NEW)]
)
def test_variable_of_each_distribution(distro, variable):
    assert profile_variable({"ROS_DISTRO": distro}) == variable


def test_users_profile_is_found_under_either_name():
    assert user_profile({}) is None
    assert [user_profile({name: "mine.xml"}) for name in (OLD, NEW)] == ["mine.xml", "mine.xml"]
