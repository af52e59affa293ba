"""Tunings: which weights move."""
