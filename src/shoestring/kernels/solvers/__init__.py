"""Solvers: from a kernel and targets to predictions, one file each."""
