"""Experiments: comparisons of runs, robustness to corruptions, adaptation to a drive."""
