"""Studies: the many runs of a recipe, what makes them, and what was published."""
