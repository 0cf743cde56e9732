"""Tests; a package, so that ``python -m test.fuzz`` finds this folder and not Python's own tests."""
