"""The tunings, one file each."""
