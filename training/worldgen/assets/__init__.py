"""What stands or moves in a street. Each function makes one thing in its own frame."""
