"""Arrays in, arrays out: the ideas that the node, the tools and training share.

Only numpy and the standard library are imported here.
"""
