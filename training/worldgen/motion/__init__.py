"""How vehicles, people and the ego vehicle move."""
