"""What sensors see of a scene: LiDAR sweeps, camera images, and the looks of surfaces."""
