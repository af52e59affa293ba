"""The kernel of gradient descent: the neural tangent kernel.

K = <J_A, J_B>.

Source: Jacot et al. 2018; Malladi et al. 2023, A Kernel-Based View of Language Model Fine-Tuning (arXiv 2210.05643),
definition 3.2.
"""

from __future__ import annotations

from shoestring.kernels.formulas.base import IDENTITY, Formula, register

SGD = register(Formula("sgd", IDENTITY, IDENTITY, flipped="sgd"))
