"""Comparisons, corruptions and adaptation: measure and report."""
