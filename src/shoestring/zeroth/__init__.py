"""Zeroth-order optimizers: ordinary `torch.optim.Optimizer`s that need forward passes only."""

from shoestring.zeroth.optimizers.lozo import LOZO
from shoestring.zeroth.optimizers.lozo_m import LOZOM
from shoestring.zeroth.optimizers.mezo import MeZO
from shoestring.zeroth.optimizers.subzero import SubZero

__all__ = ["LOZO", "LOZOM", "MeZO", "SubZero"]
