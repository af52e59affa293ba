"""Directions: which random vectors the loss is probed along."""
