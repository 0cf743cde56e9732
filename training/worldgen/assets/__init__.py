"""Meshes of buildings, plants, street furniture, vehicles and people, each built in its own frame."""
