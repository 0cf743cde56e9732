"""Scores of a run as numbers, charts, pictures and pages."""
