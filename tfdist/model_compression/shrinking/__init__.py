"""Taking out of a model what was pruned."""
