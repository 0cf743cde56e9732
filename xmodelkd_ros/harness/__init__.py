"""Test harness of the node: players, recorders, processes and DDS domains. ``node/`` never imports it."""
