"""Zeroth-order optimizers: ordinary `torch.optim.Optimizer`s that need forward passes only."""

from shoestring.zeroth.optimizers.mezo import MeZO

__all__ = ["MeZO"]
