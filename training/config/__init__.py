"""What a run is made of, read from YAML and checked; label sets."""
