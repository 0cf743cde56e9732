"""Sensor simulation: LiDAR sweeps, camera images, and surface appearance."""
