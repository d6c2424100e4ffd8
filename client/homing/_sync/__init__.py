"""The sync client: generated from the async one by scripts/unasync.py, except the modules without its header."""
