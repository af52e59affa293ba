"""The embedded default: a generated language, tasks in it, and two tiny models that the package pretrains itself."""
