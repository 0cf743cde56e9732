"""Lightning modules and their checkpoints."""
