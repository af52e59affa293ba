"""Zeroth-order optimizers: ordinary `torch.optim.Optimizer`s that need forward passes only."""

from shoestring.zeroth.optimizers.conservative import ZOConservative
from shoestring.zeroth.optimizers.curvature_spsa import CurvatureSPSA
from shoestring.zeroth.optimizers.evolution import EvolutionStrategies
from shoestring.zeroth.optimizers.expectation_modified import ExpectationModifiedMeZO
from shoestring.zeroth.optimizers.forward_gradient import ForwardGradient
from shoestring.zeroth.optimizers.fzoo import FZOO
from shoestring.zeroth.optimizers.hizoo import HiZOO
from shoestring.zeroth.optimizers.hizoo_l import HiZOOL
from shoestring.zeroth.optimizers.layer_wise import LayerWiseMeZO
from shoestring.zeroth.optimizers.lozo import LOZO
from shoestring.zeroth.optimizers.lozo_m import LOZOM
from shoestring.zeroth.optimizers.meazo import MEAZO
from shoestring.zeroth.optimizers.mezo import MeZO
from shoestring.zeroth.optimizers.one_point import OnePointMeZO
from shoestring.zeroth.optimizers.sign import ZOSign
from shoestring.zeroth.optimizers.sparse import SparseMeZO
from shoestring.zeroth.optimizers.static_mask import StaticMaskMeZO
from shoestring.zeroth.optimizers.subzero import SubZero
from shoestring.zeroth.optimizers.variance_modified import VarianceModifiedMeZO
from shoestring.zeroth.optimizers.zo_adam import ZOAdam
from shoestring.zeroth.optimizers.zo_momentum import ZOMomentum

__all__ = [
    "FZOO",
    "LOZO",
    "LOZOM",
    "MEAZO",
    "CurvatureSPSA",
    "EvolutionStrategies",
    "ExpectationModifiedMeZO",
    "ForwardGradient",
    "HiZOO",
    "HiZOOL",
    "LayerWiseMeZO",
    "MeZO",
    "OnePointMeZO",
    "SparseMeZO",
    "StaticMaskMeZO",
    "SubZero",
    "VarianceModifiedMeZO",
    "ZOAdam",
    "ZOConservative",
    "ZOMomentum",
    "ZOSign",
]
