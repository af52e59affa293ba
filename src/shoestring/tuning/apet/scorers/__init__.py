"""The scorers of weights, one file each."""
