"""Datasets and training of the networks. Run from the clone; not installed on vehicles."""
