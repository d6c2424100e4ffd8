"""The async transport, written by hand. The one for threads is generated from it."""
