"""The ROS 2 node ``segmenter``: subscriptions, sweep processing, parameters and diagnostics."""
