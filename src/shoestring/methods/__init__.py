"""Methods: how a task is solved with a model, one file each; `fit` turns a prompted model into a predictor."""
