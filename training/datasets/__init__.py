"""Dataset loaders with a common interface, bag export and camera exposures."""
