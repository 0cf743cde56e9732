"""The ROS 2 programs: the segmenter node, and the player and recorder that measure it. rclpy lives here only."""
