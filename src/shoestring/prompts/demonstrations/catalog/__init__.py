"""One file for each way of demonstrating a task."""
