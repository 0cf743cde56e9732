"""The Fast DDS profile for large clouds, and the environment variable that names it."""

from __future__ import annotations

from collections.abc import Mapping

from xmodelkd_ros.resources import find_config

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Name in Fast DDS 3 (Kilted and later, which warn about the other one) and in Fast DDS 2."""

_WITH_FASTDDS_2 = ("humble", "iron", "jazzy")


def profile_variable(environment: Mapping[str, str]) -> str:
    """Environment variable that the Fast DDS of this ROS distribution reads."""
    return PROFILE_VARIABLES[environment.get("ROS_DISTRO") in _WITH_FASTDDS_2]


def user_profile(environment: Mapping[str, str]) -> str | None:
    """Path of the user's profile, set under either name."""
    return next((environment[name] for name in PROFILE_VARIABLES if environment.get(name)), None)


def shipped_profile() -> str:
    """Path of the profile shipped with the package.

    Raises:
        ConfigError: the file is missing.
    """
    return str(find_config("fastdds_large_clouds.xml"))
