"""Where many runs are made at once: one file a launcher."""
