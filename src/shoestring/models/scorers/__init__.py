"""Scorers: the one joint every method shares, `(model, batch) -> scores [N, C]`, one entry per model kind."""
