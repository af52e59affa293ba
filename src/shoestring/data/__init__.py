"""Data: examples from files, folders and the hub, and the k-shot draws over them."""
