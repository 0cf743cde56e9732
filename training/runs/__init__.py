"""A training run: its folder, trainer, data modules and provenance."""
