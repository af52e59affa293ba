"""Demonstrations: labelled examples shown to the model together with the one that it is asked about."""
