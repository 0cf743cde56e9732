"""Inference of trained networks on sweeps."""
