"""Training: data, losses, update rules and what a run leaves behind."""
