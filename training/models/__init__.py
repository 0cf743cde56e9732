"""Neural networks: the LiDAR student, the camera teacher and its image branch."""
