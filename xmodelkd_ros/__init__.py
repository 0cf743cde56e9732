"""Camera-taught, LiDAR-only semantic segmentation for ROS 2."""
