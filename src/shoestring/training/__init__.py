"""Training: objectives, and a thin transformers Trainer for first-order and zeroth-order optimizers alike."""
