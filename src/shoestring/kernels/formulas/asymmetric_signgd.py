"""The asymmetric kernel of sign gradient descent, and the same seen from the other side.

K = <sign J_A, J_B>: a step on example A, by the sign of its gradient, changes the output on B by so much. Solvers need
the other direction too, <J_A, sign J_B>.

Source: Malladi et al. 2023 (arXiv 2210.05643), theorem 4.3.
"""

from __future__ import annotations

from shoestring.kernels.formulas.base import IDENTITY, SIGN, Formula, register

ASYMMETRIC = register(Formula("asymmetric-signgd", SIGN, IDENTITY, flipped="asymmetric-signgd-flipped"))
FLIPPED = register(Formula("asymmetric-signgd-flipped", IDENTITY, SIGN, flipped="asymmetric-signgd"))
