"""Configuration of runs, read from YAML; label sets."""
