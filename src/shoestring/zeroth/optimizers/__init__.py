"""Zeroth-order optimizers, one file each: how losses become terms, and terms a step."""
