"""Teacher targets and pseudo-labels, and the networks that a run depends on."""
