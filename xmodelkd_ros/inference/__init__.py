"""Running network files. Nothing here knows of points, labels or messages."""
