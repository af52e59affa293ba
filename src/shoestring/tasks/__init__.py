"""Tasks: what is asked, in which words, how it is scored. A task is one TOML file."""
