"""The transport for tasks, written by hand. The one for threads is generated from it."""
