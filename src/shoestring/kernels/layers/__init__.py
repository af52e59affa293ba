"""Layers whose gradients are had from their inputs and the gradients of their outputs: one file a layer."""
