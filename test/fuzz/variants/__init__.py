"""Metamorphic tests: targets whose inputs are valid variants of one input, as other drivers and users write it.

The output must equal that of the original, or the difference must be reported; each target says which. So they find
what mutated input does not: valid input that is read wrongly, lost without a note, or refused without need.
"""
