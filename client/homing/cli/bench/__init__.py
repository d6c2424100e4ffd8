"""``homing bench``: measures a server under load, and what affinity gains on it."""
