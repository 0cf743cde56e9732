"""A finished run that labels sweeps."""
