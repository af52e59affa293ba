"""Formulas: what a kernel makes of Jacobians, one file a formula."""
