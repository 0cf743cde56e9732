"""ROS messages to core types and back, with or without a ROS installation."""
