"""Attacks on the runtime: input that is random, or good and then harmed, by the ten thousand.

``python -m test.fuzz --out DIR`` feeds it in and says what broke a promise. Each input is made from three things: the
name of its target, the seed, and its number. So what broke can be made again.
"""
