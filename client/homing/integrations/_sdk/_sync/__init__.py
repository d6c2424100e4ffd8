"""The transport for threads, generated from the one for tasks."""
