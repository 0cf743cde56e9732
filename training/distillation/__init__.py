"""Teacher targets and pseudo-labels, and the runs that a run builds on."""
