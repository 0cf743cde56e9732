"""Fuzzing of the runtime with random inputs and mutated seed inputs.

``python -m test.fuzz --out DIR`` runs a campaign and reports failures. Target name, seed and number
determine an input, so that failures can be reproduced.
"""
