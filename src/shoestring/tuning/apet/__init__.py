"""APET: any number of weights, anywhere in a model, are trained; what they cost is their own size."""
