#!/bin/bash
# Launches the segmenter with the container's arguments, or runs another command: 'docker run IMAGE xmodelkd doctor'.
set -e
# shellcheck source=/dev/null
source "/opt/ros/${ROS_DISTRO}/setup.bash"
# shellcheck source=/dev/null
source /ros2_ws/install/setup.bash
case "${1-}" in
    "" | *:=*) exec ros2 launch xmodelkd_ros segment.launch.py "$@" ;;
    xmodelkd) shift && exec ros2 run xmodelkd_ros xmodelkd "$@" ;;
    *) exec "$@" ;;
esac
