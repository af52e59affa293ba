"""Tables of runs: who belongs together, which trial counts, what is shown."""
