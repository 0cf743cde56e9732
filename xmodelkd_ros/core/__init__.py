"""Data types and algorithms on arrays, shared by the node, the tools and training.

Only numpy and the standard library are imported here.
"""
