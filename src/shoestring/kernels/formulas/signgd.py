"""The kernel of sign gradient descent, early Adam, where the sign of the loss's derivative is dropped.

K = <sign J_A, sign J_B>, an integer; sign 0 = 0.

Source: Malladi et al. 2023 (arXiv 2210.05643), section 5.
"""

from __future__ import annotations

from shoestring.kernels.formulas.base import SIGN, Formula, register

SIGNGD = register(Formula("signgd", SIGN, SIGN, flipped="signgd"))
