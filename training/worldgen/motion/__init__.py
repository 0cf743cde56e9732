"""Trajectories of vehicles, pedestrians and the ego vehicle."""
