"""The label sets that training learns and is scored in."""

LABELS = "drive13"
SCORED_LABELS = "pandaset9"
"""Classes that PandaSet has enough points of; confusion is counted after mapping both sides to them."""
