"""Runs: a config in, one folder with an atomic record out, and tables over many of them."""
