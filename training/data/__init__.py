"""One file per dataset: loading only."""
