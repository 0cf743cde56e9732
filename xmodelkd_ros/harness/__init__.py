"""The node on the test bench: players, recorders, processes and DDS domains. The node never imports it."""
