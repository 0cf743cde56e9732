"""The ground plan: a road network with its cross-sections, what borders it, and meshes of the ground."""
