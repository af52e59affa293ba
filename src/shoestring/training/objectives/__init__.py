"""Objectives: what is minimised, one file each."""
