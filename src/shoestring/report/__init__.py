"""Reports over runs: figures, a self-contained page."""
