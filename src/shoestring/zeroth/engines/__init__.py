"""Engines: how losses at points around the weights are evaluated, and when updates reach the weights."""
