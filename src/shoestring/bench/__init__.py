"""Benchmarks: how long a step takes and what it holds, against two forward passes and against the reference's way."""
