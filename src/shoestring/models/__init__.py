"""Models: any transformers model by name or folder, batches, and scorers that turn both into candidate scores."""
