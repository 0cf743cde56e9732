"""Conversion between ROS messages and core types, with or without a ROS installation."""
